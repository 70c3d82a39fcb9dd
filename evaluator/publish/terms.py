"""The license of published weights."""

import re
from dataclasses import dataclass

from pipeline.errors import UserError
from trainer.run.checkpoint import CheckpointInfo

# The identifiers of https://huggingface.co/docs/hub/repositories-licenses that a license of weights may have.
IDENTIFIERS = frozenset((
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m", "bigscience-bloom-rail-1.0",
    "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1",
    "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "lppl-1.3c", "ms-pl",
    "mpl-2.0", "odc-by", "odbl", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib",
    "pddl", "lgpl-lr", "unknown",
))  # fmt: skip
LINK = "README.md#origin-and-license"  # the section of the card


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The license of a model. `name`: as it is shown. `identifier`: in IDENTIFIERS, or "other". `link`: only of others."""

    name: str
    identifier: str
    link: str = ""

    @property
    def front_matter(self) -> dict[str, str]:
        """Fields of the front matter of a model card."""
        if self.identifier != "other":
            return {"license": self.identifier}
        slug = re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-") or "other"
        return {"license": "other", "license_name": slug[:60], "license_link": self.link}


def choose_terms(given: str | None, info: CheckpointInfo) -> Terms:
    """Return the license `given` by the user, or that of the weights that were imported.

    Raises UserError if the user must choose: for weights trained from the start, and for imported ones (also if they were trained
    further) whose license is not one of IDENTIFIERS, such as CMU's. The message names their origin and license.
    """
    if given is not None:
        identifier = given.strip().lower()
        if identifier in IDENTIFIERS:
            return Terms(name=identifier, identifier=identifier)
        if identifier == "other" and info.origin:
            return Terms(name=info.origin.get("license", "other"), identifier="other", link=info.origin.get("url", LINK))
        return Terms(name=given.strip(), identifier="other", link=info.origin.get("url", LINK))
    own = info.origin.get("license", "").lower()
    if own in IDENTIFIERS and not info.backbone_origin:
        return Terms(name=own, identifier=own)
    if info.origin and own not in IDENTIFIERS:
        raise UserError(
            f"--license: the weights come from {info.origin.get('source', 'an unknown source')}, whose license is "
            f"{info.origin.get('license', 'unknown')!r} (see {info.origin.get('url', 'its authors')}); if it permits to publish "
            "them, pass the license under which, or --license other for that license itself"
        )
    backbone = info.backbone_origin
    part = f"; their backbone comes from {backbone.get('source')}, license {backbone.get('license')}" if backbone else ""
    raise UserError(
        f"--license: you choose the license of weights that you have trained{part}; pass an identifier such as apache-2.0. "
        "`python -m data_cards lineage` lists the licenses of the training images"
    )
