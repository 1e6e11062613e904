"""What grading one submission may cost, so that none keeps a worker for hours."""

from __future__ import annotations

import dataclasses

from trtverify.fixtures.words.messages import _

from ..sandbox.limits import Limits


@dataclasses.dataclass(frozen=True)
class Budget:
    """Bounds of all that is done for one submission.

    Attributes:
        seconds: of all its tests together, tries that failed included. Each script has its own wall clock, and runs
            once, or twice if a neighbour may have slowed it.
        breaches: limits that it may break in one lab, each confirmed alone, before that lab's other checks are not run.
    """

    seconds: float
    breaches: int = 3

    def reason(self, seconds: float, breaches: int) -> str:
        """Why nothing more is run after so many seconds and, in the lab in question, breaches; "" if more may be."""
        if seconds > self.seconds:
            return _("not run: grading this submission took {seconds:.0f} s, of {limit:.0f} s that it may take").format(
                seconds=seconds, limit=self.seconds
            )
        if breaches >= self.breaches:
            return _("not run: {count} checks of this lab exceeded their limits before it").format(count=breaches)
        return ""


def of(tests: Limits) -> Budget:
    """The budget that follows from the limits of one submission's tests.

    All of them together may take `wall_seconds`. Work that a neighbour slowed takes that once in vain and once alone;
    a third time, and a minute for starting sandboxes, is for breaches: honest work cannot reach it.
    """
    return Budget(3 * tests.wall_seconds + 60)
