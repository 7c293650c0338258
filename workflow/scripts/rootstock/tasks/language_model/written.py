"""What a model writes after one prompt: tokens become text as they come, until the text's end or a stop string."""

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class Written:
    """The text after one prompt. What may be the beginning of a stop string is held back until it is decided."""

    def __init__(self, tokenizer: Tokenizer, stops: tuple[str, ...]):
        self.tokenizer, self.stops = tokenizer, stops
        self.decoder, self.tokens = DecodeStream(skip_special_tokens=True), []
        self.come, self.shown = "", 0  # whole characters so far, and how many of them `add` has handed out
        self.is_over = False

    def add(self, token: int) -> str:
        """What the next token adds to the text, without a character that is not complete yet."""
        self.tokens.append(token)
        self.come += self.decoder.step(self.tokenizer, token) or ""
        end = self._end()
        self.is_over = end is not None
        return self._until(len(self.come) - self._held() if end is None else end)

    def rest(self) -> str:
        """The rest when no token follows: what was held back, and a character that never became complete."""
        if not self.is_over:
            self.come = self.tokenizer.decode(self.tokens)
        end = self._end()
        return self._until(len(self.come) if end is None else end)

    def whole(self) -> str:
        """All of the text."""
        self.rest()
        return self.come[: self.shown]

    def _until(self, end: int) -> str:
        piece, self.shown = self.come[self.shown : end], max(self.shown, end)
        return piece

    def _end(self) -> int | None:
        """Where the first stop string begins."""
        return min((place for stop in self.stops if (place := self.come.find(stop)) >= 0), default=None)

    def _held(self) -> int:
        """How many of the last characters may begin a stop string."""
        sizes = (size for stop in self.stops for size in range(1, len(stop)) if self.come.endswith(stop[:size]))
        return max(sizes, default=0)
