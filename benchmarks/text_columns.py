"""What columns of text gain beside the other columns of a table: the same models with and without them.

HYPERMAP_DATA=FOLDER python benchmarks/text_columns.py [--seeds 3] [--sets films …] [--models tabular_mlp …]
python benchmarks/text_columns.py --quick    does it run at all: made-up adverts, one seed, two epochs

FOLDER has ``movielens_latest_small/ml-latest-small.zip`` (GroupLens) and ``ag_news/test.csv``. Every model learns from
the same training rows, with `experiment=table`; a figure is the mean over the seeds of the training, and its interval
resamples the test rows, with the same rows for both sides of a difference. Nothing here was tuned on test rows.

films: 3,650 films of MovieLens with five ratings or more; the target is the mean rating, the columns are the year and
the number of ratings, the texts are the title, the tags that users gave (none for 2,524 films), and the genres, a list
in a cell. Without texts, the genres are a category, as a table's reader takes them.
ag_news: 7,600 news; the target is one of four classes, the column is the number of characters of the description, the
texts are the title and the description. All that is known of a news item is its texts, so that this is what they carry
beside a column that says little.
"""

import argparse
import io
import os
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hypermap.config.compose import compose
from hypermap.core import device
from hypermap.datasets.prepare import prepare_settings
from text import Scores, about, trained  # also finds the package

MODELS = ("tabular_mlp", "gradient_boosting")
WAYS = {"none": [], "characters": ["data.text_ngrams=characters"], "words": ["data.text_ngrams=words"]}
SETS = {
    "films": ("rating", ["title", "tags", "genres"], "r2"),
    "ag_news": ("class", ["title", "description"], "accuracy"),
}
MADE_UP = ("price", ["advert"], "r2")
LEAST_RATINGS = 5


def films(root: Path) -> pl.DataFrame:
    """Films with their mean rating."""
    with zipfile.ZipFile(root / "movielens_latest_small" / "ml-latest-small.zip") as archive:
        movies, ratings, tags = (
            pl.read_csv(io.BytesIO(archive.read(f"ml-latest-small/{name}.csv")))
            for name in ("movies", "ratings", "tags")
        )
    rated = ratings.group_by("movieId").agg(rating=pl.col("rating").mean().round(4), ratings=pl.len())
    tagged = (
        tags.sort("movieId", "timestamp")
        .group_by("movieId")
        .agg(tags=pl.col("tag").unique(maintain_order=True).str.join(", "))
    )
    joined = movies.join(rated, on="movieId").join(tagged, on="movieId", how="left")
    return (
        joined.filter(pl.col("ratings") >= LEAST_RATINGS)
        .sort("movieId")
        .select(
            pl.col("title").str.replace(r"\s*\(\d{4}\)\s*$", ""),
            "genres",
            "tags",
            "ratings",
            "rating",
            year=pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64),
        )
    )


def ag_news(root: Path) -> pl.DataFrame:
    """News with their class, and the length of the description."""
    names = ["class", "title", "description"]
    news = pl.read_csv(root / "ag_news" / "test.csv", has_header=False, new_columns=names)
    return news.with_columns(
        pl.format("class {}", "class").alias("class"), length=pl.col("description").str.len_chars()
    )


def made_up() -> pl.DataFrame:
    """Adverts of houses, whose price depends on the area and on a word."""
    draw = np.random.default_rng(0)
    area, fine = draw.uniform(30, 200, 240), draw.random(240) < 0.5
    texts = [f"{'charming' if good else 'run-down'} place no {k} with a garden" for k, good in enumerate(fine)]
    return pl.DataFrame({"area": area, "advert": texts, "price": 1000 * area + 60_000 * fine})


def measure(
    frame: pl.DataFrame, of: tuple[str, list[str], str], models: Sequence[str], seeds: int, folder: Path, quick: bool
) -> dict[tuple[str, str], Scores]:
    """The scores of each model, with each way to count texts."""
    target, texts, metric = of
    frame.write_csv(folder / "table.csv")
    words = ["experiment=table", "final=holdout", f"data.path={folder / 'table.csv'}", f"data.target={target}"]
    words += ["trainer.epochs=2", "trainer.threads=1"] if quick else []
    found = {}
    for way, own in WAYS.items():
        of_way = [*words, *own, *([f"data.text=[{','.join(texts)}]"] if own else [])]
        started = time.perf_counter()
        prepare_settings(folder / way, compose(of_way)["data"])
        print(f"  {way}: prepared in {time.perf_counter() - started:.1f} s", flush=True)
        for model in models:
            option = [] if model == "tabular_mlp" else [f"model={model}"]
            found[model, way] = trained([*of_way, *option], metric, folder / way, folder / f"{way}-{model}", seeds)
            print(f"  {way}, {model}: validation {found[model, way].validation:.4f}", flush=True)
    return found


def page(
    results: Mapping[str, Mapping[tuple[str, str], Scores]], texts: Mapping[str, tuple[str, list[str], str]]
) -> str:
    """The table, in Markdown."""
    lines = [
        "| set | model | texts | validation | test | each seed | more than without | a training |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for name, found in results.items():
        for (model, way), scores in found.items():
            each = ", ".join(f"{value:.4f}" for value in scores.values)
            gained = "" if way == "none" else scores.less(found[model, "none"])
            cells = (f"{scores.validation:.3f}", scores.told, each, gained, f"{scores.seconds:.0f} s")
            lines.append(f"| {name}, {texts[name][2]} | {model} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=[*SETS], metavar="SET")
    parser.add_argument("--models", nargs="+", default=[*MODELS], metavar="MODEL")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a smoke run: made-up adverts, one seed, two epochs")
    arguments = parser.parse_args()
    device.make_repeatable()
    quick, root = arguments.quick, os.environ.get("HYPERMAP_DATA")
    if root is None and not quick:
        parser.error("set HYPERMAP_DATA to a folder that has movielens_latest_small and ag_news")
    known = {"made up": MADE_UP} if quick else {name: SETS[name] for name in arguments.sets}
    results, seeds = {}, 1 if quick else arguments.seeds
    for name, of in known.items():
        print(name, flush=True)
        frame = made_up() if quick else {"films": films, "ag_news": ag_news}[name](Path(str(root)))
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(frame, of, arguments.models, seeds, Path(folder), quick)
    print(text := f"{about(seeds)}\n{page(results, known)}")
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
