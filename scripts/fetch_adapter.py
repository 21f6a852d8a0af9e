"""Fetch a PEFT adapter from a hub at a pinned commit, or copy a local one."""

import argparse
import sys

from lowrank.errors import InputError, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

Only adapter_config.json and adapter_model.safetensors are taken: no pickle, no code. Files from a
hub are checked against the hashes it states; interrupted, it goes on where it was.
adapter_source.json is written last: where it came from, size and SHA-256 of both files.
HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT and HF_HOME are honoured.""",
        epilog="""examples:
  python scripts/fetch_adapter.py --repo owner/name --subfolder checkpoint-2000 \\
      --revision 0123456789abcdef0123456789abcdef01234567 --output results/x/peft/theirs
  python scripts/fetch_adapter.py --path adapters/theirs --output results/x/peft/theirs""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repo", metavar="OWNER/NAME", help="repository on the hub")
    parser.add_argument("--revision", metavar="SHA", help="its commit, all 40 digits")
    parser.add_argument("--path", metavar="DIR", help="or a local folder")
    parser.add_argument(
        "--subfolder", default="", metavar="DIR", help="where in it the adapter lies"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to fill")
    args = parser.parse_args()

    from lowrank.models.adapter_files import copy_adapter, fetch_adapter

    if args.path and not (args.repo or args.revision):
        copy_adapter(args.path, args.subfolder, args.output)
    elif args.repo and args.revision and not args.path:
        fetch_adapter(args.repo, args.revision, args.subfolder, args.output)
    else:
        raise InputError("either --repo and --revision, or --path is needed")


if __name__ == "__main__":
    sys.exit(run(main))
