"""Checkpoints and problem files from a Hugging Face hub at a pinned commit, or from a folder.

Only files on an allow-list are fetched: safetensors, configuration, tokenizer. They go to the cache
of the hub's client (HF_HOME), so that experiments share them. The client continues what was cut;
it does not look at what arrived, so every file is checked here against the hash that the hub states
for that commit: one by one, so that a damaged one is fetched anew, which neither the client's
`snapshot_download` nor its `verify_repo_checksums` does.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lowrank.claims import (
    check_output,
    check_space,
    clear,
    place,
    set_aside,
    way_to_place,
)
from lowrank.errors import InputError
from lowrank.files import note_written, sha256, whole_file, write_json
from lowrank.models.checkpoint import open_checkpoint
from lowrank.models.manifest import claim_checkpoint, gather_tokenizer, write_manifest
from lowrank.places import locate
from lowrank.plan.checkpoint_files import (
    INDEX,
    SINGLE,
    plain_file,
    read_index,
    taken,
    weight_files,
    weight_names,
)

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at a commit: its size and one of two hashes."""

    name: str
    size: int
    sha256: str | None  # large files
    git_sha1: str | None  # files kept in git itself

    def lies_at(self, path: Path) -> bool:
        """Whether a path leads to a file of the content that the hub states."""
        return path.is_file() and self.hash_matches(path)

    def hash_matches(self, path: Path) -> bool:
        """Whether a local file has the content that the hub states."""
        if path.stat().st_size != self.size:
            return False
        if self.sha256:
            return sha256(path) == self.sha256
        if self.git_sha1:
            blob = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
            blob.update(path.read_bytes())
            return blob.hexdigest() == self.git_sha1
        return True


def check_revision(repo: str, revision: str) -> None:
    """InputError unless a revision is a full commit."""
    if not COMMIT.fullmatch(revision):
        raise InputError(
            f"{repo}: revision is {revision!r}; a 40-digit commit is needed so that the run can be "
            "repeated (see the repository's commit page)"
        )


@contextmanager
def plain_errors(what: str) -> Iterator[None]:
    """Turn what the hub's client raises into an InputError that says what to do.

    The client's own messages are not repeated: they run over many lines and quote requests.
    """
    from huggingface_hub import errors

    token = "log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except errors.GatedRepoError:
        raise InputError(
            f"{what}: access is gated; accept its terms on its page, then {token}"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(
            f"{what}: the repository has no such revision (404); see its commit page"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{what}: no such repository, or a private one (401/404); check its name, or {token}"
        ) from None
    except errors.OfflineModeIsEnabled:
        raise InputError(not_cached(what)) from None
    except errors.LocalEntryNotFoundError as error:
        # The client wraps lost connections in this, too; its cause tells them apart.
        if offline():
            raise InputError(not_cached(what)) from None
        raise InputError(_http_sentence(what, error.__cause__ or error, token)) from None
    except errors.EntryNotFoundError:
        raise InputError(
            f"{what}: no such file at that revision (404); see the repository's file list"
        ) from None
    except errors.HFValidationError:
        raise InputError(f"{what}: no valid repository name; owner/name expected") from None
    except errors.HfHubHTTPError as error:
        raise InputError(_http_sentence(what, error, token)) from None
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError) or error.errno == 28:
            raise InputError(f"{what}: {error.strerror}: {error.filename}") from None
        raise InputError(f"{what}: {_kind(error)}; run it again, it goes on where it was") from None
    except Exception as error:
        # The library that carries the requests differs with the client's version.
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        raise InputError(_http_sentence(what, error, token)) from None


def not_cached(what: str) -> str:
    return f"{what}: HF_HUB_OFFLINE is set and the client's cache does not have it; unset it once"


def _http_sentence(what: str, error: BaseException, token: str) -> str:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    match status:
        case 401 | 403:
            return f"{what}: the hub refuses access ({status}); {token}, with access to it"
        case 404:
            return f"{what}: not found (404); check repository, revision and file"
        case 429:
            return f"{what}: the hub asks for fewer requests (429); wait some minutes, run it again"
        case int():
            return f"{what}: the hub answers with an error ({status}); run it again later"
    if any("Timeout" in kind.__name__ for kind in type(error).__mro__):
        return f"{what}: the hub does not answer in time; run it again, it goes on where it was"
    return f"{what}: no connection to the hub ({_kind(error)}); check the network and run it again"


def _kind(error: BaseException) -> str:
    return type(error).__name__


def offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def fetch_model(repo: str, revision: str, output: str | Path) -> None:
    """Fetch a checkpoint at a commit into a folder; write its manifest last.

    Files come through the hub client's cache, which all experiments share, and are linked from
    there. An interrupted fetch is continued: a started file goes on at its last byte. With
    HF_HUB_OFFLINE set, the cache must have them.
    Raises InputError, one line that says what to do, for everything the hub or the disk refuses.
    """
    check_revision(repo, revision)
    output = Path(output)
    what = f"{repo}@{revision[:10]}"
    if offline():
        cached, weights = cached_weights(repo, revision, what)
        names = taken(weights, [path.name for path in cached.iterdir()])
        files = {name: plain_file(cached, name) for name in names}
    else:
        listed = {file.name: file for file in list_files(repo, revision, "model", what)}
        weights = weight_names(what, listed, lambda: remote_index(repo, revision, listed, what))
        if weights == [SINGLE] and INDEX in listed:
            print(f"{what}: {SINGLE} is taken, {INDEX} is not, as in transformers", file=sys.stderr)
        names = taken(weights, listed)
        files = fetched(repo, revision, [listed[name] for name in names], output, what)
    known = {name: sha256(path) for name, path in files.items()}
    set_aside(output, names, known)
    _take(files, known, weights, output, {"repo": repo, "revision": revision})


def fetched(
    repo: str, revision: str, files: Sequence[RemoteFile], output: Path, what: str
) -> dict[str, Path]:
    """Where files of a repository lie by now, by name: in the client's cache, or in the output.

    What lies in the output with the right content is not fetched.
    """
    there = {file.name: output / file.name for file in files if file.lies_at(output / file.name)}
    missing = [file for file in files if file.name not in there]
    check_cache(repo, revision, missing)
    for count, file in enumerate(missing, 1):
        gigabytes = file.size / 1e9
        print(
            f"{count}/{len(missing)} {file.name}, {gigabytes:.3g} GB", file=sys.stderr, flush=True
        )
        there[file.name] = download(repo, revision, file, None, what)
    return there


def check_cache(repo: str, revision: str, files: Sequence[RemoteFile]) -> None:
    """InputError if the disk of the client's cache cannot take what is missing there."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    missing = sum(
        file.size
        for file in files
        if not isinstance(try_to_load_from_cache(repo, file.name, revision=revision), str)
    )
    blobs = cache / repo_folder_name(repo_id=repo, repo_type="model") / "blobs"
    started = sum(path.stat().st_size for path in blobs.glob("*.incomplete"))
    check_space(cache, missing - started)


def cached_weights(repo: str, revision: str, what: str) -> tuple[Path, list[str]]:
    """A repository's folder in the hub client's cache, and its weight files; InputError without."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    if not isinstance(found, str):
        raise InputError(not_cached(what))
    folder = Path(found).parent
    present = [path.name for path in folder.iterdir()]
    return folder, weight_names(what, present, lambda: read_index(folder / INDEX, what))


def remote_index(
    repo: str, revision: str, listed: dict[str, RemoteFile], what: str
) -> dict[str, str]:
    """The weight map of a repository's index, read before anything is put into the output."""
    return read_index(download(repo, revision, listed[INDEX], None, what), what)


def _write_index(output: Path, weights: Sequence[str]) -> None:
    """The index of weights that came without one: rules name it, and loaders find shards by it."""
    if list(weights) != [SINGLE] and (output / INDEX).exists():
        return
    tensors = open_checkpoint(output).tensors
    weight_map = {name: entry.file.name for name, entry in tensors.items()}
    total = sum(entry.size for entry in tensors.values())
    write_json(output / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def list_files(
    repo: str, revision: str, kind: str, what: str, every: bool = False
) -> list[RemoteFile]:
    """The files at the top of a repository (of a dataset, or if asked: all), sizes and hashes."""
    with plain_errors(what):
        from huggingface_hub import HfApi, constants

        info = HfApi().repo_info(
            repo,
            revision=revision,
            repo_type=kind,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
    if info.sha != revision:
        raise InputError(f"{what}: the hub answers with commit {info.sha}; check the revision")
    return [
        RemoteFile(
            file.rfilename,
            file.size or 0,
            file.lfs.sha256 if file.lfs else None,
            None if file.lfs else file.blob_id,
        )
        for file in getattr(info, "siblings", None) or ()
        if every or kind == "dataset" or "/" not in file.rfilename
    ]


def download(
    repo: str, revision: str, file: RemoteFile, folder: Path | None, what: str, **kind: Any
) -> Path:
    """One file into a folder, or into the client's cache; its path there.

    The client does not look at what arrived: the file is fetched once more, then refused, if its
    hash is not the hub's.
    """
    what = f"{what}: {file.name}"
    for attempt in range(2):
        with plain_errors(what):
            from huggingface_hub import hf_hub_download

            # Documented to be there, without being in an __all__.
            from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

            if not sys.stderr.isatty():
                disable_progress_bars()  # progress bars fill a log
            path = hf_hub_download(
                repo,
                file.name,
                revision=revision,
                local_dir=folder,
                force_download=attempt > 0,
                **kind,
            )
        if file.hash_matches(Path(path)):
            return Path(path)
        print(f"{what}: its hash is not the hub's, fetched again", file=sys.stderr, flush=True)
        Path(path).resolve().unlink()
    raise InputError(
        f"{what}: what arrives does not have the hash that the hub states, twice; something on the "
        "way alters it, or the repository is damaged"
    )


def copy_model(path: str | Path, output: str | Path) -> None:
    """Take over a local checkpoint folder's files, allow-listed as from a hub; manifest last.

    Weights are linked where the disk allows it. Raises InputError, before anything is changed, if
    the folder is no sound checkpoint, if the output is not free, or the disk is too small.
    """
    given, path, output = path, locate(path), Path(output)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    check_output(output, [path])
    open_checkpoint(path)
    weights = weight_files(path)
    names = taken(weights, [entry.name for entry in path.iterdir()])
    files = {name: plain_file(path, name) for name in names}
    known = {name: sha256(file) for name, file in files.items()}
    _take(files, known, weights, output, {"path": str(given)})


def _take(
    files: dict[str, Path],
    known: dict[str, str],
    weights: Sequence[str],
    output: Path,
    source: dict[str, str],
) -> None:
    """Link or copy a checkpoint's files into the output; write its manifest last.

    files, known: where they lie and their SHA-256, by name. A link shares its bytes with the
    source, which may be changed: what depends on them hashes them.
    """
    folders = [path.parent for path in files.values() if path.parent != output]
    check_output(output, folders)
    output.mkdir(parents=True, exist_ok=True)
    way = way_to_place(files[weights[0]], output)
    ways = {name: way if name in weights else "copy" for name in files}
    there = [name for name, path in files.items() if _stays(output / name, path, known[name])]
    new = {name: path for name, path in files.items() if name not in there}
    copied = [path.stat().st_size for name, path in new.items() if ways[name] == "copy"]
    claim_checkpoint(output, folders, known, sum(copied), there)
    clear(output, there)
    for name in there:
        note_written(output, name, known[name])
    for name, path in new.items():
        with whole_file(output / name, partial(known.__getitem__, name)) as temporary:
            place(path, temporary, ways[name])
            if ways[name] == "copy" and sha256(temporary) != known[name]:
                raise InputError(f"{path}: changed while it was copied; try again when it is done")
    for name in [name for name in weights if name in new]:
        gigabytes = new[name].stat().st_size / 1e9
        print(f"{name}, {gigabytes:.3g} GB: {way}", file=sys.stderr, flush=True)
    _write_index(output, weights)
    gather_tokenizer(output)
    write_manifest(output, source, known)


def _stays(path: Path, source: Path, digest: str) -> bool:
    """Whether a path in the output is a source file, or weights that lead to one or equal it."""
    if path == source:
        return True
    if not path.name.endswith(".safetensors") or not path.is_file():
        return False
    same_size = path.stat().st_size == source.stat().st_size
    return same_size and (path.samefile(source) or sha256(path) == digest)


def fetch_file(repo: str, revision: str, file: str, folder: Path) -> Path:
    """One file of a dataset repository at a commit, into a folder; its path there."""
    check_revision(repo, revision)
    what = f"{repo}@{revision[:10]}"
    if offline():
        with plain_errors(f"{what}: {file}"):
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))
    listed = {entry.name: entry for entry in list_files(repo, revision, "dataset", what)}
    if file not in listed:
        tables = [name for name in listed if name.endswith((".parquet", ".jsonl", ".json", ".csv"))]
        raise InputError(
            f"{what}: has no file {file}; its tables are {', '.join(tables) or 'none'}"
        )
    return download(repo, revision, listed[file], folder, what, repo_type="dataset")
