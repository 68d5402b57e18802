"""What a swarm accepts: contributions and agreed sets that are well-formed, signed where signatures are used, bounded.

Everybody checks by the same rules, so that an agreed set counts for all or for none.
"""

from __future__ import annotations

import hmac

from aleator.distributed.codes import check_gradients
from aleator.distributed.manifest import Manifest
from aleator.distributed.messages import Commit, Contribution, Malformed, signature_of


def check_contribution(contribution: Contribution, manifest: Manifest, secret: bytes | None = None) -> None:
    """Check a contribution.

    Args:
        contribution: as it came.
        manifest: of the swarm.
        secret: the swarm's key for signatures; None leaves them unchecked, as a reader without the key must.

    Raises:
        Malformed: saying what is wrong with it.
    """
    _check_signature(contribution, manifest, secret, "it")
    if bool(contribution.weights) != (contribution.round % manifest.hash_every == 0):
        raise Malformed(f"it must have a hash of all weights every {manifest.hash_every} rounds and only then")
    check_gradients(contribution.gradients, manifest)


def check_commit(commit: Commit, manifest: Manifest, secret: bytes | None = None) -> None:
    """Check the agreed set of a round. Arguments and errors as for `check_contribution`."""
    what = f"the agreed set of round {commit.round}"
    _check_signature(commit, manifest, secret, what)
    if not commit.contributions:
        raise Malformed(f"{what} is empty")
    if list(commit.machines) != sorted(set(commit.machines)):
        raise Malformed(f"the machines in {what} must ascend, got {list(commit.machines)}")
    if commit.lr != manifest.lr:
        raise Malformed(f"lr must be {manifest.lr} in {what}, got {commit.lr}")
    for contribution in commit.contributions:
        if contribution.round != commit.round:
            raise Malformed(f"{what} holds a contribution to round {contribution.round}")
        try:
            check_contribution(contribution, manifest, secret)
        except Malformed as error:
            raise Malformed(f"machine {contribution.machine} in {what}: {error}") from None


def _check_signature(signed: Contribution | Commit, manifest: Manifest, secret: bytes | None, what: str) -> None:
    if bool(signed.signature) != manifest.signed:
        raise Malformed(f"{what} is {'not signed' if manifest.signed else 'signed, which this swarm does not use'}")
    if secret is not None and manifest.signed:
        right = signature_of(secret, manifest.run, signed.signed_part())
        if not hmac.compare_digest(right, signed.signature):
            raise Malformed(f"the signature of {what} is wrong")
