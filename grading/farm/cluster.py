"""One run over many machines: a scheduler is reached, workers are proved, units are handed out.

Dask is imported by those alone who ask for a scheduler.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trtverify.fixtures.words.messages import _

from .. import pool
from ..pool import FarmError
from ..taking.intake import Snapshots
from ..work import Workshop

if TYPE_CHECKING:
    from .hands import Farm

_CONNECT_SECONDS = 10.0


@contextlib.contextmanager
def opened(workshop: Workshop, address: str) -> Iterator[Farm]:
    """A farm whose tasks are given up afterwards.

    Raises:
        FarmError: Dask is not installed, or there is no scheduler at the address.
    """
    try:
        import distributed
    except ImportError:
        raise FarmError(_("--scheduler needs Dask: `pip install -r requirements-grading.txt`")) from None
    from .hands import Farm
    from .shelf import Shelf
    from .worker import Orders

    for name in ("distributed", "distributed.client", "tornado"):  # what matters is said here
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with contextlib.ExitStack() as stack:
        try:
            client = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, RuntimeError, TypeError, ValueError) as problem:  # of certificates, too
            raise FarmError(
                _("there is no scheduler at {address}: {problem}").format(address=address, problem=problem)
            ) from problem
        stack.callback(client.close, timeout=5)
        scheduler = distributed.comm.get_address_host(client.scheduler_info()["address"])
        here = distributed.utils.get_ip(scheduler)  # the address that the cluster reaches this machine by
        tls = client.security.get_listen_args("scheduler")["ssl_context"]
        shelf = stack.enter_context(Shelf(here, Snapshots(workshop.snapshots), workshop.suite.folder, tls))
        threading.Thread(target=shelf.serve_forever, daemon=True).start()
        stack.callback(shelf.shutdown)
        local = stack.enter_context(pool.opened(workshop, 1))
        orders = Orders(shelf.place, shelf.suite_digest, workshop)
        yield stack.enter_context(contextlib.closing(Farm(client, address, orders, local)))
