"""Checkpoints and problem files from a Hugging Face hub at a pinned commit, or from a folder.

Only files on an allow-list are fetched: safetensors, configuration, tokenizer. Every file is
checked against the hash that the hub states for that commit.
"""

import hashlib
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowrank.checkpoint import (
    CONFIG_FILES,
    INDEX,
    SINGLE,
    TOKENIZER_FILES,
    clear_checkpoint,
    plain_file,
    read_index,
    weight_files,
    weight_names,
    write_manifest,
)
from lowrank.errors import InputError
from lowrank.files import sha256, whole_file
from lowrank.places import locate

COMMIT = re.compile(r"[0-9a-f]{40}")
SPARE_BYTES = 64 * 2**20  # left free on the disk after a download


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at a commit: its size and one of two hashes."""

    name: str
    size: int
    sha256: str | None  # large files
    git_sha1: str | None  # files kept in git itself

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
        raise InputError(_not_cached(what)) from None
    except errors.LocalEntryNotFoundError as error:
        # The client wraps lost connections in this, too; its cause tells them apart.
        if _offline():
            raise InputError(_not_cached(what)) from None
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


def _not_cached(what: str) -> str:
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


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def fetch_model(repo: str, revision: str, output: str | Path) -> None:
    """Fetch a checkpoint at a commit into a folder; write its manifest last.

    Interrupted, it goes on where it was: finished files are recognised by their hash, started ones
    are continued. With HF_HUB_OFFLINE set, the files come from the hub client's local cache.
    Raises InputError, one line that says what to do, for everything the hub or the disk refuses.
    """
    check_revision(repo, revision)
    output = Path(output)
    source = {"repo": repo, "revision": revision}
    what = f"{repo}@{revision[:10]}"
    if _offline():
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(repo, "config.json", revision=revision)
        if not isinstance(found, str):
            raise InputError(_not_cached(what))
        cached = Path(found).parent
        # The cache's files are links into its store; here they are followed on purpose.
        present = [path.name for path in cached.iterdir()]
        names = weight_names(what, present, lambda: read_index(cached / INDEX, present))
        names += [n for n in (INDEX, *CONFIG_FILES, *TOKENIZER_FILES) if n in present]
        _copy({name: (cached / name).resolve() for name in names}, output)
        write_manifest(output, source)
        return

    listed = {file.name: file for file in _list(repo, revision, "model", what)}
    hashes = {}
    if SINGLE not in listed and INDEX in listed:
        _room(output, [listed[INDEX]])
        _download(repo, revision, listed[INDEX], output, what)
    names = weight_names(what, listed, lambda: read_index(output / INDEX, listed))
    names += [n for n in (INDEX, *CONFIG_FILES, *TOKENIZER_FILES) if n in listed and n not in names]
    clear_checkpoint(output, keep=names)
    _room(output, [listed[name] for name in names])
    for count, name in enumerate(names, 1):
        gigabytes = listed[name].size / 1e9
        print(f"{count}/{len(names)} {name}, {gigabytes:.3g} GB", file=sys.stderr, flush=True)
        _download(repo, revision, listed[name], output, what)
        if listed[name].sha256:
            hashes[name] = listed[name].sha256
    write_manifest(output, source, hashes)
    _forget_client(output)


def _list(repo: str, revision: str, kind: str, what: str) -> list[RemoteFile]:
    """The files at the top of a repository (of a dataset: all) with sizes and hashes."""
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
        for file in info.siblings
        if kind == "dataset" or "/" not in file.rfilename
    ]


def _download(
    repo: str, revision: str, file: RemoteFile, folder: Path, what: str, **kind: Any
) -> Path:
    """One file into a folder; fetched once more, then refused, if its hash is not the hub's."""
    what = f"{what}: {file.name}"
    for attempt in range(2):
        with plain_errors(what):
            from huggingface_hub import hf_hub_download
            from huggingface_hub.utils import disable_progress_bars

            if not sys.stderr.isatty():
                disable_progress_bars()  # a log wants lines
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
        Path(path).unlink()
    raise InputError(
        f"{what}: what arrives does not have the hash that the hub states, twice; something on the "
        "way alters it, or the repository is damaged"
    )


def _room(output: Path, files: Sequence[RemoteFile]) -> None:
    """InputError if the disk cannot take the files that are not there yet."""
    output.mkdir(parents=True, exist_ok=True)
    needed = sum(
        file.size
        for file in files
        if not ((output / file.name).is_file() and (output / file.name).stat().st_size == file.size)
    )
    started = sum(path.stat().st_size for path in _client_folder(output).rglob("*.incomplete"))
    _check_space(output, needed - started)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > 0 and free < needed + SPARE_BYTES:
        raise InputError(
            f"{folder}: {needed / 1e9:.3g} GB are needed, {free / 1e9:.3g} GB are free on that "
            "disk; free some, or put the results elsewhere"
        )


def _client_folder(output: Path) -> Path:
    return output / ".cache" / "huggingface"


def _forget_client(output: Path) -> None:
    """Remove the hub client's notes on finished downloads from a folder."""
    shutil.rmtree(_client_folder(output), ignore_errors=True)
    if (output / ".cache").is_dir() and not any((output / ".cache").iterdir()):
        (output / ".cache").rmdir()


def copy_model(path: str | Path, output: str | Path) -> None:
    """Copy a local checkpoint folder's files, allow-listed as from a hub; write its manifest last.

    Raises InputError if the folder is no sound checkpoint or the disk is too small.
    """
    given, path, output = path, locate(path), Path(output)
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    if output.exists() and path.resolve() == output.resolve():
        raise InputError(f"{path}: is the output folder itself; give another --output")
    names = weight_files(path)
    names += [
        n for n in (INDEX, *CONFIG_FILES, *TOKENIZER_FILES)
        if (path / n).is_file() and n not in names
    ]  # fmt: skip
    _copy({name: plain_file(path, name) for name in names}, output)
    write_manifest(output, {"path": str(given)})


def _copy(files: dict[str, Path], output: Path) -> None:
    clear_checkpoint(output)
    _check_space(output, sum(path.stat().st_size for path in files.values()))
    for name, path in files.items():
        with whole_file(output / name) as temporary:
            shutil.copyfile(path, temporary)


def fetch_file(repo: str, revision: str, file: str, folder: Path) -> Path:
    """One file of a dataset repository at a commit, into a folder; its path there."""
    check_revision(repo, revision)
    what = f"{repo}@{revision[:10]}"
    if _offline():
        with plain_errors(f"{what}: {file}"):
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision))
    listed = {entry.name: entry for entry in _list(repo, revision, "dataset", what)}
    if file not in listed:
        tables = [name for name in listed if name.endswith((".parquet", ".jsonl", ".json", ".csv"))]
        raise InputError(
            f"{what}: has no file {file}; its tables are {', '.join(tables) or 'none'}"
        )
    return _download(repo, revision, listed[file], folder, what, repo_type="dataset")
