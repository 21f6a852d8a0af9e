"""Fetch a checkpoint from a hub at a pinned commit, or link a local one, and list what it holds."""

import argparse
import sys

from lowrank.errors import InputError, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

Only safetensors, configuration and tokenizer files are taken: no pickle, no code. Files from a hub
come through its client's cache and are checked against the hashes that it states; interrupted, it
goes on where it was. Weights are linked (hard link, else symbolic link, else a copy). What prompts
are made with lies in tokenizer/, too. manifest.json is written last: every file's size and SHA-256,
every tensor's dtype and shape.
HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT and HF_HOME are honoured.""",
        epilog="""examples:
  python scripts/fetch_model.py --repo Qwen/Qwen2.5-Math-1.5B \\
      --revision 4a83ca6e4526a4f2da3aa259ec36c259f66b2ab2 --output results/x/models/qwen
  python scripts/fetch_model.py --path resources/mini/sft --output results/mini/models/sft""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repo", metavar="OWNER/NAME", help="repository on the hub")
    parser.add_argument("--revision", metavar="SHA", help="its commit, all 40 digits")
    parser.add_argument("--path", metavar="DIR", help="or a local checkpoint folder")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to fill")
    args = parser.parse_args()

    from lowrank.models.hub import copy_model, fetch_model

    if args.path and not (args.repo or args.revision):
        copy_model(args.path, args.output)
    elif args.repo and args.revision and not args.path:
        fetch_model(args.repo, args.revision, args.output)
    else:
        raise InputError("either --repo and --revision, or --path is needed")


if __name__ == "__main__":
    sys.exit(run(main))
