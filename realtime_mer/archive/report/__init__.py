"""Reports for people: one HTML file for a video, and one for all of an archive's."""

from __future__ import annotations

import os
from pathlib import Path

from realtime_mer.archive.results_folder import ResultsFolder
from realtime_mer.archive.reviews.verdicts import Reviews
from realtime_mer.errors import InputError
from realtime_mer.output.writable import check_writable, replace_file, shown, why

_PACKAGES = frozenset(("PIL", "jinja2", "markupsafe", "matplotlib"))


def write_report(
    folder: ResultsFolder,
    key: str | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    reviews: Reviews | None = None,
) -> Path:
    """Writes a report: a single file that loads nothing from elsewhere.

    Args:
        folder: The results.
        key: Of one video; None for all of the archive.
        out: Where to write it; None for where the folder has it.
        reviews: What was reviewed; None to read it. Who writes many reports reads it once.

    Returns:
        The file.

    Raises:
        InputError: The results cannot be read, there is no such video, the file cannot be written,
            or a package is missing.

    Example:
        write_report(ResultsFolder("results"), key="interview-01234567")
    """
    try:
        from realtime_mer.archive.report.page import archive_page, video_page
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise InputError(
            f"reports need the package {error.name}: pip install realtime-mer[archive]"
        ) from None
    manifest = folder.manifest
    reviews = reviews or Reviews.read(folder)
    if key is None:
        path = folder.report if out is None else Path(out)
        check_writable(path)
        page = archive_page(folder, manifest, reviews)
    else:
        entries = [entry for entry in manifest["videos"] if entry.get("key") == key]
        if not entries:
            raise InputError(
                f"{shown(folder.path)} has no video {shown(key)}: the folder's videos/ has a "
                "folder for each, whose name is the key"
            )
        if entries[0].get("state") != "done":
            raise InputError(
                f"{shown(key)} has no results yet: its state is {entries[0].get('state')!r}. Run "
                "the archive again."
            )
        video = folder.video(entries[0])
        path = video.report if out is None else Path(out)
        check_writable(path)
        page = video_page(video, manifest, reviews.of(video.key))
    try:
        # Halves of characters (names that are not UTF-8) cannot be written otherwise.
        replace_file(path, page.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(
            f"{shown(path)} cannot be written: {why(error)}. Name a file that you may write."
        ) from None
    return path
