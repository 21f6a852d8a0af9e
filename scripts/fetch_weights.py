"""Fetch one file of a checkpoint's weights from a hub at a pinned commit, or link a local one."""

import argparse
import sys

from lowrank.errors import InputError, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

Which file is said by the name of --output. From a hub it comes through its client's cache and is
checked against the hash that the hub states; interrupted, it goes on where it was. It is linked
(symbolic link, else a copy).
HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT and HF_HOME are honoured.""",
        epilog="""examples:
  python scripts/fetch_weights.py --repo Qwen/Qwen2.5-Math-1.5B \\
      --revision 4a83ca6e4526a4f2da3aa259ec36c259f66b2ab2 \\
      --output results/x/models/qwen/model.safetensors
  python scripts/fetch_weights.py --path resources/mini/sft \\
      --output results/mini/models/sft/model.safetensors""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repo", metavar="OWNER/NAME", help="repository on the hub")
    parser.add_argument("--revision", metavar="SHA", help="its commit, all 40 digits")
    parser.add_argument("--path", metavar="DIR", help="or a local checkpoint folder")
    parser.add_argument("--output", required=True, metavar="FILE", help=".safetensors to write")
    args = parser.parse_args()

    from lowrank.models.weight_file import fetch_weights, link_weights

    if args.path and not (args.repo or args.revision):
        link_weights(args.path, args.output)
    elif args.repo and args.revision and not args.path:
        fetch_weights(args.repo, args.revision, args.output)
    else:
        raise InputError("either --repo and --revision, or --path is needed")


if __name__ == "__main__":
    sys.exit(run(main))
