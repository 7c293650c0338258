"""Build the documentation site in build/site, in strict mode: `python docs/site_of_documents.py`, or `make docs`.

Pages and pictures are copied to build/pages under their paths in the repository, so that a link that works on
GitHub works on the site.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("*.md", "docs/*.md", "docs/*.svg", "docs/*.png", "config/*.md", "profiles/*.md", "benchmarks/*.md")


def copy_pages(root: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for page in (page for pattern in PAGES for page in root.glob(pattern)):
        place = folder / page.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, place)


def build(root: Path) -> subprocess.CompletedProcess:
    copy_pages(root, root / "build/pages")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    done = build(ROOT)
    print(done.stdout)
    sys.exit(done.returncode)
