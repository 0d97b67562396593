"""Who comes next where many wait: addresses take turns, and so do the visitors of one address."""

import copy
import threading
from collections import OrderedDict, deque
from collections.abc import Container, Hashable, Iterator
from contextlib import closing, contextmanager
from typing import Generic, NamedTuple, TypeVar

ItemT = TypeVar("ItemT")


class Visitor(NamedTuple):
    """Somebody who asks for something: the address that they call from, and their session there.

    A program may open a session for each of its calls. Its address stays the same.
    """

    address: str
    session: str = ""


class BusyError(ValueError):
    """Too many are waiting already."""


def address_of(client: Hashable) -> Hashable:
    """Return whose turns a client uses up: the address of a visitor, or the client itself."""
    return client.address if isinstance(client, Visitor) else client


class Lines(Generic[ItemT]):
    """Waiting items, each with its client. Not safe for threads: whoever owns the lines holds a lock."""

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, OrderedDict[Hashable, deque[ItemT]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(line) for lines in self._lines.values() for line in lines.values())

    def add(self, item: ItemT, client: Hashable) -> None:
        """Put an item at the end of its client's line."""
        lines = self._lines.setdefault(address_of(client), OrderedDict())
        lines.setdefault(client, deque()).append(item)

    def pop(self, skipped: Container[Hashable] = ()) -> ItemT:
        """Take the item whose turn it is; its address, and its client there, are last from now on.

        Raises:
            LookupError: nothing waits, but for the items of addresses that are to be skipped.
        """
        address = next((address for address in self._lines if address not in skipped), None)
        if address is None and (None not in self._lines or None in skipped):
            raise LookupError("nothing waits")
        lines = self._lines.pop(address)
        client, line = lines.popitem(last=False)
        item = line.popleft()
        if line:
            lines[client] = line
        if lines:
            self._lines[address] = lines
        return item

    def pop_of(self, client: Hashable, most: int) -> list[ItemT]:
        """Take up to `most` items of one client, in their order."""
        line = self._lines.get(address_of(client), OrderedDict()).get(client, deque())
        items = list(line)[: max(0, most)]
        for item in items:
            self.remove(item, client)
        return items

    def remove(self, item: ItemT, client: Hashable) -> bool:
        """Take an item out of its line; False if it does not wait."""
        address = address_of(client)
        lines = self._lines.get(address, OrderedDict())
        line = lines.get(client, deque())
        if item not in line:
            return False
        line.remove(item)
        if not line:
            del lines[client]
        if not lines:
            del self._lines[address]
        return True

    def num_of(self, address: Hashable) -> int:
        """Return how many items of an address wait."""
        return sum(map(len, self._lines.get(address, OrderedDict()).values()))

    def num_ahead(self, item: ItemT) -> int:
        """Return how many items will be taken before this one; 0 if it does not wait."""
        if not any(item in line for lines in self._lines.values() for line in lines.values()):
            return 0
        rest = Lines[ItemT]()
        rest._lines = OrderedDict(
            (address, OrderedDict((client, copy.copy(line)) for client, line in lines.items()))
            for address, lines in self._lines.items()
        )
        ahead = 0
        while rest.pop() is not item:
            ahead += 1
        return ahead

    def check_room(self, client: Hashable, most: int, most_each: int, things: str) -> None:
        """Refuse one more item where all lines, or those of the client's address, are full; others have no address.

        Raises:
            BusyError: the message says how many `things` wait.
        """
        if len(self) >= most:
            raise BusyError(f"{most} {things} are waiting already; try again in a moment")
        if isinstance(client, Visitor) and self.num_of(client.address) >= most_each:
            raise BusyError(f"{most_each} {things} of yours are waiting already; try again when some are done")


class Turns:
    """A piece of work that one client does at a time.

    Args:
        things: what waits, in the plural, for messages.
        most: how many may wait; further ones are refused.
        most_each: how many of one address may wait.
    """

    def __init__(self, things: str, most: int = 64, most_each: int = 16) -> None:
        self._things, self._most, self._most_each = things, most, most_each
        self._change = threading.Condition()
        self._lines = Lines["Turn"]()
        self._holder: Turn | None = None

    def ask(self, client: Hashable = None) -> "Turn":
        """Wait in line from now on; close what is returned to leave the line, or to let the next one work.

        Raises:
            BusyError: too many are waiting.
        """
        turn = Turn(self, client)
        with self._change:
            if self._holder is None:
                self._holder = turn
            else:
                self._lines.check_room(client, self._most, self._most_each, self._things)
                self._lines.add(turn, client)
        return turn

    @contextmanager
    def taken(self, client: Hashable = None) -> Iterator[None]:
        """Wait for a turn and hold it.

        Raises:
            BusyError: too many are waiting.
        """
        with closing(self.ask(client)) as turn:
            turn.wait()
            yield

    def wait(self, turn: "Turn", seconds: float | None) -> bool:
        """Wait until it is this turn; False if the seconds ran out."""
        with self._change:
            return self._change.wait_for(lambda: self._holder is turn, seconds)

    def num_ahead(self, turn: "Turn") -> int:
        """Return how many come before a turn that waits, with the one that is held."""
        with self._change:
            return 0 if self._holder is turn else 1 + self._lines.num_ahead(turn)

    def leave(self, turn: "Turn", client: Hashable) -> None:
        """Give a turn back, or leave the line."""
        with self._change:
            if self._holder is turn:
                self._holder = self._lines.pop() if len(self._lines) else None
                self._change.notify_all()
            else:
                self._lines.remove(turn, client)


class Turn:
    """A place in a line, and the work itself once it has come; made by `Turns.ask`."""

    def __init__(self, turns: Turns, client: Hashable) -> None:
        self._turns, self._client = turns, client

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has come; False if the seconds ran out."""
        return self._turns.wait(self, seconds)

    @property
    def num_ahead(self) -> int:
        """How many come before it."""
        return self._turns.num_ahead(self)

    def close(self) -> None:
        """Let the next one work, or leave the line."""
        self._turns.leave(self, self._client)
