# Find the code of this workflow, beside this file or in a commit of a git repository, never through the working folder.
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError


def code_of_commit(source):
    """The folder of the scripts of the commit that a git source file belongs to, unpacked once, with the profiles.
    `source` is a LocalGitFile or a HostingProviderFile of Snakemake, which has cloned the repository by then."""
    import git

    repository = source.hosted_repo.repo if hasattr(source, "hosted_repo") else git.Repo(source.repo_path)
    commit = repository.commit(source.ref).hexsha
    place = Path(f".rootstock/workflow-{os.getuid()}", commit)
    for folder in (place.parent, place):
        if folder.is_symlink() or (folder.exists() and folder.stat().st_uid not in (0, os.getuid())):
            raise WorkflowError(f"{folder} is a link or another user's; remove it, and the commit is unpacked anew")
    if not (place / "workflow/scripts").is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        unpacked = Path(tempfile.mkdtemp(prefix=f"{commit}.", dir=place.parent))
        try:
            with tempfile.TemporaryFile() as archive:
                repository.archive(archive, commit, path=["workflow", "profiles"])
                archive.seek(0)
                with tarfile.open(fileobj=archive) as files:
                    files.extractall(unpacked, filter="data")
            unpacked.chmod(0o755)  # as git would have made it
            os.rename(unpacked, place)
        except (OSError, tarfile.TarError, git.GitCommandError) as error:
            if not (place / "workflow/scripts").is_dir():  # nobody else was quicker
                raise WorkflowError(f"the code of Rootstock, commit {commit}, cannot be unpacked: {error}") from None
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
    return place / "workflow/scripts"


def code_folder(rules):
    """The folder of the scripts, found from the folder of the rules. A path below the working folder is relative: it is
    shorter in logs, and the same on every machine that mounts the project."""
    if hasattr(rules, "ref"):
        return str(code_of_commit(rules))
    folder = Path(os.path.abspath(Path(rules.get_path_or_uri(secret_free=True)).parent / "scripts"))
    if not folder.is_dir():
        raise WorkflowError(
            f"the code of Rootstock is not at {folder}; give `snakefile:` a folder here or a git repository"
        )
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


SCRIPTS = code_folder(workflow.current_basedir)
sys.path.insert(0, os.path.abspath(SCRIPTS))
