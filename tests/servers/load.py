"""Customers of the shop: `python -m tests.servers.load URL RATE` starts RATE checkouts a second until it is ended.

Of ten customers six have an odd number, and one is always declined: a sound shop makes orders of nine in ten checkouts.
What finds no server is dropped, as a customer would leave; the next one comes in its own time.
"""

import http.client
import itertools
import sys
import threading
import time
import urllib.parse

CUSTOMERS = (11, 22, 33, 44, 55, 30, 77, 88, 99, 13)
HANDS = 4


def customer_after_customer(address: str, rate: float, first: int) -> None:
    """One of HANDS who send checkouts, each over a connection of its own."""
    where = urllib.parse.urlsplit(address)
    line = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=2)
    due = time.monotonic() + first / rate
    for turn in itertools.count(first, HANDS):
        time.sleep(max(0.0, due - time.monotonic()))
        # A stall is not made up for: the rate never rises above what was asked.
        due = max(due + HANDS / rate, time.monotonic())
        body = b'{"customer": %d}' % CUSTOMERS[turn % len(CUSTOMERS)]
        try:
            line.request("POST", "/checkout", body, {"Content-Type": "application/json"})
            line.getresponse().read()
        except (OSError, http.client.HTTPException):
            line.close()


def main() -> None:
    """Send checkouts until SIGTERM."""
    address, rate = sys.argv[1], float(sys.argv[2])
    hands = [
        threading.Thread(target=customer_after_customer, args=(address, rate, first), daemon=True)
        for first in range(HANDS)
    ]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()


if __name__ == "__main__":
    main()
