"""Parses Binance's messages in their usual form to exact integers, without Python objects.

A scanner takes blocks of lines. It reads a line only in the exact form that Binance writes, without
spaces, escapes or other keys. Each number must also fit 18 digits and the units of its symbol. Any
other line is returned to the Python decoder, which reads it or reports what is wrong. So a scanner
never refuses a line, and never reads one with a different result.

Source: the payloads of ``depthUpdate``, ``bookTicker`` and ``trade`` in Binance's documentation of
its spot and USD-M streams.
"""

cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from velox.feeds.decode import fields

__all__ = ["DIFF", "END", "OTHER", "TRADE", "BinanceScanner"]

# Results of `BinanceScanner.advance`: the end, a diff, a line for the Python decoder, a trade.
END, DIFF, OTHER, TRADE = 0, 1, 2, 3

cdef enum:
    CODE_END = 0
    CODE_DIFF = 1
    CODE_OTHER = 2
    CODE_TRADE = 3
    CODE_NEXT = 4           # the line is done with: look at the next one
    NAME_LIMIT = 64
    SYMBOLS = 256
    DIGITS = 18             # a mantissa of that many fits 63 bits
    # Levels that a new scanner has room for.
    FIRST_LEVELS = 1024

cdef int64_t POWERS[19]
POWERS[:] = [10 ** exponent for exponent in range(19)]

cdef int64_t MICROSECONDS_FROM = fields.MICROSECONDS_FROM
cdef int64_t NANOSECONDS_FROM = fields.NANOSECONDS_FROM

# The units of one symbol's numbers: `limit` is the first number that does not fit; `step` is 0 if
# any number is allowed. `largest` is that of the lines that were read; `seen` also covers the line
# that is being read.
cdef struct units:
    int64_t limit
    int64_t step
    int64_t largest
    int64_t seen
    int places

cdef struct ticker:
    uint64_t id
    int64_t best[4]

cdef struct symbol:
    char name[NAME_LIMIT]
    Py_ssize_t length
    units prices
    units sizes
    ticker *tickers
    Py_ssize_t ticker_count
    Py_ssize_t ticker_capacity

cdef struct message:
    bint has_time
    bint has_previous
    bint maker_buys
    bint named              # a combined stream's
    Py_ssize_t symbol
    int64_t time
    int64_t event_time
    int64_t venue_time
    int64_t first
    int64_t final
    int64_t previous
    int64_t price
    int64_t size
    Py_ssize_t bids
    Py_ssize_t asks


cdef inline const char *literal(const char *at, const char *end, const char *text,
                                Py_ssize_t length) noexcept nogil:
    """Return the position after `text`, or NULL if the line continues differently."""
    if end - at < length or memcmp(at, text, length) != 0:
        return NULL
    return at + length


cdef inline const char *integer(const char *at, int64_t *value) noexcept nogil:
    """Return the position after a JSON integer of at most 18 digits, or NULL.

    A non-digit must follow.
    """
    cdef const char *begin = at
    cdef int64_t found = 0
    while 48 <= at[0] <= 57:
        if at - begin == DIGITS:
            return NULL
        found = found * 10 + (at[0] - 48)
        at += 1
    if at == begin or (begin[0] == 48 and at - begin > 1):
        return NULL
    value[0] = found
    return at


cdef inline const char *decimal(const char *at, units *unit, int64_t *value) noexcept nogil:
    """Return the position after the closing quote of decimal text.

    NULL if it is not exact in the units.
    """
    cdef int64_t mantissa = 0, power
    cdef Py_ssize_t digits = 0, decimals = 0
    while 48 <= at[0] <= 57:
        if digits == DIGITS:
            return NULL
        mantissa = mantissa * 10 + (at[0] - 48)
        digits += 1
        at += 1
    if digits == 0:
        return NULL
    if at[0] == 46:             # b"."
        at += 1
        while 48 <= at[0] <= 57:
            if digits + decimals == DIGITS:
                return NULL
            mantissa = mantissa * 10 + (at[0] - 48)
            decimals += 1
            at += 1
        if decimals == 0:
            return NULL
    if at[0] != 34:             # b'"'
        return NULL
    if decimals <= unit.places:
        power = POWERS[unit.places - decimals]
        if power != 1:
            if mantissa > unit.limit // power:
                return NULL
            mantissa *= power
    else:
        power = POWERS[decimals - unit.places]
        if mantissa % power != 0:
            return NULL
        mantissa //= power
    if mantissa >= unit.limit or (unit.step > 1 and mantissa % unit.step != 0):
        return NULL
    if mantissa > unit.seen:
        unit.seen = mantissa
    value[0] = mantissa
    return at + 1


cdef inline const char *name(const char *at, const char *end, Py_ssize_t *length) noexcept nogil:
    """Return the position after a name of 1 to 64 printable characters and its quote, or NULL."""
    cdef const char *begin = at
    while at < end and at[0] != 34:
        if at[0] < 32 or at[0] > 126 or at[0] == 92 or at - begin == NAME_LIMIT:
            return NULL
        at += 1
    if at == end or at == begin:
        return NULL
    length[0] = at - begin
    return at + 1


cdef inline bint epoch_ns(int64_t value, int64_t *time) noexcept nogil:
    """Convert a venue's time to nanoseconds by the size of the number. False if it does not fit."""
    cdef int64_t factor = 1
    if value < MICROSECONDS_FROM:
        factor = 1_000_000
    elif value < NANOSECONDS_FROM:
        factor = 1_000
    if value > INT64_MAX // factor:
        return False
    time[0] = value * factor
    return True


cdef bint is_diff_stream(const char *at, Py_ssize_t length) noexcept nogil:
    """Whether a stream's name is ``NAME@depth`` or ``NAME@depth@NUMBERms``."""
    cdef const char *end = at + length
    cdef const char *mark = <const char *>memchr(at, 64, length)    # b"@"
    if mark == NULL:
        return False
    at = literal(mark + 1, end, b"depth", 5)
    if at == NULL:
        return False
    if at == end:
        return True
    if at[0] != 64:
        return False
    at += 1
    mark = at
    while at < end and 48 <= at[0] <= 57:
        at += 1
    return at > mark and end - at == 2 and memcmp(at, b"ms", 2) == 0


@cython.final
cdef class BinanceScanner:
    """Reads lines of Binance's streams in their usual form.

    Attributes
    ----------
    line : int
        The number of the line that `advance` returned.
    raw : bytes
        That line without its line end.
    first, final, previous, has_previous, named
        The ids of a diff, and whether its stream's name said that it is one.
    time, has_time
        The time in ns of the newest message that `advance` has just read and that has one.
    event_time
        The event time of the newest message in ns; 0 where it has none.
    venue_time
        The time of its transaction in ns, or else its event time; 0 where it has neither.
    symbol : int
        Which symbol it is of, as `add` returned it.
    identity, price, size, maker_buys
        A trade.
    trades_ignored : int
        Trades that were scanned while they were not wanted.

    Notes
    -----
    Not thread-safe: one thread drives a scanner.
    """

    cdef symbol *symbols
    cdef Py_ssize_t symbol_count
    cdef Py_ssize_t last_symbol
    cdef bint trades
    # The block that is read, and the position in it.
    cdef bytes block
    cdef const char *at
    cdef const char *end
    cdef const char *line_begin
    cdef const char *line_end
    cdef Py_ssize_t next_line
    cdef bint stamped
    cdef int64_t stamp_factor
    cdef bint stamp_told
    # The levels of the newest diff: bids, then asks.
    cdef int64_t *prices
    cdef int64_t *sizes
    cdef Py_ssize_t capacity
    cdef message found
    cdef int64_t newest_time
    cdef bint any_time
    cdef Py_ssize_t ignored

    def __cinit__(self, *, bint trades=False):
        self.trades = trades
        self.stamp_factor = 1
        self.capacity = FIRST_LEVELS
        self.symbols = <symbol *>malloc(SYMBOLS * sizeof(symbol))
        self.prices = <int64_t *>malloc(FIRST_LEVELS * sizeof(int64_t))
        self.sizes = <int64_t *>malloc(FIRST_LEVELS * sizeof(int64_t))
        if self.symbols == NULL or self.prices == NULL or self.sizes == NULL:
            raise MemoryError("no memory for a scanner")
        memset(self.symbols, 0, SYMBOLS * sizeof(symbol))

    def __dealloc__(self):
        cdef Py_ssize_t index
        if self.symbols != NULL:
            for index in range(self.symbol_count):
                free(self.symbols[index].tickers)
        free(self.symbols)
        free(self.prices)
        free(self.sizes)

    def stamps(self, int64_t factor, bint told):
        """Set the unit of the timestamps of lines, in ns, and whether that unit is certain."""
        self.stamp_factor = factor
        self.stamp_told = told

    def add(self, str name not None):
        """Add a symbol, and return its number, or -1 if it cannot be scanned."""
        encoded = name.encode()
        if len(encoded) > NAME_LIMIT or self.symbol_count == SYMBOLS:
            return -1
        cdef symbol *new = &self.symbols[self.symbol_count]
        memcpy(new.name, <const char *>encoded, len(encoded))
        new.length = len(encoded)
        self.symbol_count += 1
        return self.symbol_count - 1

    def set_prices(self, Py_ssize_t symbol, int places, int64_t limit, int64_t step):
        """Set the unit of a symbol's prices: decimals, first too large number, step or 0."""
        self.set_units(symbol, True, places, limit, step)

    def set_sizes(self, Py_ssize_t symbol, int places, int64_t limit, int64_t step):
        """Set the unit of a symbol's sizes, as `set_prices`."""
        self.set_units(symbol, False, places, limit, step)

    cdef set_units(self, Py_ssize_t index, bint is_price, int places, int64_t limit, int64_t step):
        if not 0 <= index < self.symbol_count or not 0 <= places <= DIGITS or limit < 1:
            raise ValueError(f"symbol {index}, places {places}, limit {limit}")
        cdef units *unit = &self.symbols[index].prices
        if not is_price:
            unit = &self.symbols[index].sizes
        unit.places = places
        unit.limit = limit
        unit.step = step
        unit.largest = unit.seen = 0

    def largest(self, Py_ssize_t index):
        """The largest price and size of a symbol that were scanned since its units were set."""
        if not 0 <= index < self.symbol_count:
            raise ValueError(f"symbol {index}")
        return self.symbols[index].prices.largest, self.symbols[index].sizes.largest

    def begin(self, bytes block not None, Py_ssize_t line=1, *, bint stamped=True):
        """Take a block of lines.

        Parameters
        ----------
        block : bytes
        line : int
            The number of its first line.
        stamped : bool
            Whether lines may begin with a local timestamp.
        """
        self.block = block
        self.at = <const char *>block
        self.end = self.at + len(block)
        self.next_line = line
        self.stamped = stamped

    def advance(self):
        """Scan to the next diff or trade, or to a line that is not of the usual form.

        It keeps the tickers that it passes; see `take_tickers`.

        Returns
        -------
        int
            DIFF, TRADE, OTHER, or END after the last line.
        """
        cdef int code
        self.any_time = False
        with nogil:
            code = self.run()
        return code

    def skip_one(self):
        """Return the next line to the Python decoder without scanning it; OTHER, or END."""
        if not self.next():
            return CODE_END
        return CODE_OTHER

    cdef bint next(self) noexcept nogil:
        """Step to the next line. False after the last."""
        cdef const char *mark
        if self.at >= self.end:
            return False
        self.line_begin = self.at
        mark = <const char *>memchr(self.at, 10, self.end - self.at)
        if mark == NULL:
            mark = self.end
            self.at = mark
        else:
            self.at = mark + 1
        while mark > self.line_begin and (mark - 1)[0] == 13:    # b"\r"
            mark -= 1
        self.line_end = mark
        self.next_line += 1
        return True

    cdef int run(self) noexcept nogil:
        cdef int code
        while self.next():
            code = self.scan(self.line_begin, self.line_end)
            if code != CODE_OTHER:
                self.accept()
            if code != CODE_NEXT:
                return code
        return CODE_END

    cdef void accept(self) noexcept nogil:
        """Store the times and the largest numbers of a line that was read."""
        cdef symbol *of
        if self.found.has_time:
            self.newest_time = self.found.time
            self.any_time = True
        if self.found.symbol >= 0:
            of = &self.symbols[self.found.symbol]
            of.prices.largest = of.prices.seen
            of.sizes.largest = of.sizes.seen

    cdef int scan(self, const char *at, const char *end) noexcept nogil:
        cdef const char *data
        cdef const char *stream = NULL
        cdef Py_ssize_t length = 0
        memset(&self.found, 0, sizeof(message))
        self.found.symbol = -1
        if at < end and 48 <= at[0] <= 57:
            if not self.stamped:
                return CODE_OTHER
            at = self.stamp(at, end)
            if at == NULL:
                return CODE_OTHER
        data = literal(at, end, b'{"stream":"', 11)
        if data != NULL:
            stream = data
            at = name(data, end, &length)
            if at == NULL:
                return CODE_OTHER
            at = literal(at, end, b',"data":', 8)
            # The last brace closes the wrapper.
            if at == NULL or end - at < 2 or (end - 1)[0] != 125:
                return CODE_OTHER
            end -= 1
        if end - at < 2 or (end - 1)[0] != 125:
            return CODE_OTHER
        data = literal(at, end, b'{"e":"depthUpdate","E":', 23)
        if data != NULL:
            if stream != NULL:
                if not is_diff_stream(stream, length):
                    return CODE_OTHER
                self.found.named = True
            return self.scan_diff(data, end)
        data = literal(at, end, b'{"e":"bookTicker","u":', 22)
        if data == NULL:
            data = literal(at, end, b'{"u":', 5)
        if data != NULL:
            return self.scan_ticker(data, end)
        data = literal(at, end, b'{"e":"trade","E":', 17)
        if data != NULL:
            return self.scan_trade(data, end)
        return CODE_OTHER

    cdef const char *stamp(self, const char *at, const char *end) noexcept nogil:
        """Return the position after a local timestamp and its space, or NULL."""
        cdef int64_t stamp = 0
        cdef Py_ssize_t digits = 0
        while 48 <= at[0] <= 57:
            if digits == 19 or stamp > (INT64_MAX - 9) // 10:
                return NULL
            stamp = stamp * 10 + (at[0] - 48)
            digits += 1
            at += 1
        if at >= end or at[0] != 32:
            return NULL
        if not self.stamp_told and (
                POWERS[9] <= stamp < POWERS[10] or POWERS[12] <= stamp < POWERS[13]
                or POWERS[15] <= stamp < POWERS[16]):
            return NULL         # the size of a time in another unit
        if stamp > (INT64_MAX - 1) // self.stamp_factor:
            return NULL
        self.found.time = stamp * self.stamp_factor
        self.found.has_time = True
        return at + 1

    cdef inline bint event(self, int64_t value) noexcept nogil:
        """Note the event time, which is the message's time if it has no other."""
        if not epoch_ns(value, &self.found.event_time):
            return False
        self.found.venue_time = self.found.event_time
        if not self.found.has_time:
            self.found.has_time = True
            self.found.time = self.found.event_time
        return True

    cdef inline const char *transaction_time(self, const char *at,
                                             const char *end) noexcept nogil:
        """Return the position after the time of the transaction, if it is there; NULL if invalid.

        A time of 0 is none.
        """
        cdef int64_t value, time
        cdef const char *begin = literal(at, end, b',"T":', 5)
        if begin == NULL:
            return at
        at = integer(begin, &value)
        if at == NULL or not epoch_ns(value, &time):
            return NULL
        self.found.venue_time = time if time != 0 else self.found.event_time
        return at

    cdef symbol *known(self, const char *at, Py_ssize_t length) noexcept nogil:
        """The symbol of a name, or NULL."""
        cdef symbol *each
        cdef Py_ssize_t index
        for index in range(-1, self.symbol_count):
            # Try the last symbol first: most lines have the symbol of the previous line.
            if index < 0:
                index = self.last_symbol
            each = &self.symbols[index]
            if each.length == length and memcmp(each.name, at, length) == 0:
                self.last_symbol = self.found.symbol = index
                each.prices.seen = each.prices.largest
                each.sizes.seen = each.sizes.largest
                return each
        return NULL

    cdef const char *symbol_of(self, const char *at, const char *end, symbol **of) noexcept nogil:
        """Return the position after the symbol's key and name, or NULL if it is not known."""
        cdef Py_ssize_t length
        cdef const char *begin = literal(at, end, b',"s":"', 6)
        if begin == NULL:
            return NULL
        at = name(begin, end, &length)
        if at == NULL:
            return NULL
        of[0] = self.known(begin, length)
        return at if of[0] != NULL else NULL

    cdef int scan_diff(self, const char *at, const char *end) noexcept nogil:
        cdef int64_t value
        cdef const char *begin
        cdef symbol *of
        at = integer(at, &value)
        if at == NULL or not self.event(value):
            return CODE_OTHER
        at = self.transaction_time(at, end)
        if at == NULL:
            return CODE_OTHER
        at = self.symbol_of(at, end, &of)
        if at == NULL:
            return CODE_OTHER
        at = literal(at, end, b',"U":', 5)
        if at != NULL:
            at = integer(at, &self.found.first)
        if at != NULL:
            at = literal(at, end, b',"u":', 5)
        if at != NULL:
            at = integer(at, &self.found.final)
        if at == NULL or self.found.first > self.found.final:
            return CODE_OTHER
        begin = literal(at, end, b',"pu":', 6)
        if begin != NULL:
            self.found.has_previous = True
            at = integer(begin, &self.found.previous)
            if at == NULL:
                return CODE_OTHER
        at = literal(at, end, b',"b":[', 6)
        if at != NULL:
            at = self.levels(at, end, of, 0, &self.found.bids)
        if at != NULL:
            at = literal(at, end, b',"a":[', 6)
        if at != NULL:
            at = self.levels(at, end, of, self.found.bids, &self.found.asks)
        if at == NULL or end - at != 1:
            return CODE_OTHER
        return CODE_DIFF

    cdef const char *levels(self, const char *at, const char *end, symbol *of, Py_ssize_t begin,
                            Py_ssize_t *count) noexcept nogil:
        """Return the position after the bracket that closes an array of levels, or NULL."""
        cdef Py_ssize_t index = begin
        if at < end and at[0] == 93:        # b"]"
            count[0] = 0
            return at + 1
        while True:
            if index == self.capacity and not self.grow():
                return NULL
            if end - at < 9 or at[0] != 91 or at[1] != 34:      # b'["'
                return NULL
            at = decimal(at + 2, &of.prices, &self.prices[index])
            if at == NULL or self.prices[index] == 0:
                return NULL
            if at[0] != 44 or at[1] != 34:                      # b',"'
                return NULL
            at = decimal(at + 2, &of.sizes, &self.sizes[index])
            if at == NULL or at[0] != 93:
                return NULL
            index += 1
            if at[1] == 44:
                at += 2
                continue
            if at[1] != 93:
                return NULL
            count[0] = index - begin
            return at + 2

    cdef bint grow(self) noexcept nogil:
        """Double the room for levels. False if there is no memory."""
        cdef Py_ssize_t capacity = 2 * self.capacity
        cdef void *prices = realloc(self.prices, capacity * sizeof(int64_t))
        if prices == NULL:
            return False
        self.prices = <int64_t *>prices
        cdef void *sizes = realloc(self.sizes, capacity * sizeof(int64_t))
        if sizes == NULL:
            return False
        self.sizes = <int64_t *>sizes
        self.capacity = capacity
        return True

    cdef int scan_ticker(self, const char *at, const char *end) noexcept nogil:
        cdef int64_t update, value
        cdef int64_t best[4]
        cdef const char *begin
        cdef symbol *of
        at = integer(at, &update)
        if at == NULL:
            return CODE_OTHER
        at = self.symbol_of(at, end, &of)
        if at == NULL:
            return CODE_OTHER
        at = self.half(at, end, b',"b":"', b',"B":"', of, &best[0])
        if at != NULL:
            at = self.half(at, end, b',"a":"', b',"A":"', of, &best[2])
        if at == NULL:
            return CODE_OTHER
        at = optional_integer(at, end, b',"T":', 5)
        if at == NULL:
            return CODE_OTHER
        begin = literal(at, end, b',"E":', 5)
        if begin != NULL:
            at = integer(begin, &value)
            if at == NULL or not self.event(value):
                return CODE_OTHER
        if end - at != 1 or not self.keep(of, update, best):
            return CODE_OTHER
        return CODE_NEXT

    cdef const char *half(self, const char *at, const char *end, const char *price_key,
                          const char *size_key, symbol *of, int64_t *best) noexcept nogil:
        """Return the position after one side of a ticker, or NULL. An empty side is 0 and 0."""
        cdef int64_t seen = of.prices.seen
        at = literal(at, end, price_key, 6)
        if at != NULL:
            at = decimal(at, &of.prices, &best[0])
        if at != NULL:
            at = literal(at, end, size_key, 6)
        if at != NULL:
            at = decimal(at, &of.sizes, &best[1])
        if at == NULL:
            return NULL
        if best[1] == 0:
            best[0] = 0
            of.prices.seen = seen       # the price of an empty side is none
        elif best[0] == 0:
            return NULL
        return at

    cdef bint keep(self, symbol *of, int64_t update, const int64_t *best) noexcept nogil:
        cdef Py_ssize_t capacity
        cdef void *tickers
        if of.ticker_count == of.ticker_capacity:
            capacity = 2 * of.ticker_capacity + 64
            tickers = realloc(of.tickers, capacity * sizeof(ticker))
            if tickers == NULL:
                return False
            of.tickers = <ticker *>tickers
            of.ticker_capacity = capacity
        of.tickers[of.ticker_count].id = <uint64_t>update
        memcpy(of.tickers[of.ticker_count].best, best, 4 * sizeof(int64_t))
        of.ticker_count += 1
        return True

    cdef int scan_trade(self, const char *at, const char *end) noexcept nogil:
        cdef int64_t value
        cdef Py_ssize_t length
        cdef const char *begin
        cdef symbol *of = NULL
        at = integer(at, &value)
        if at == NULL or not self.event(value):
            return CODE_OTHER
        at = self.transaction_time(at, end)
        if at == NULL:
            return CODE_OTHER
        begin = literal(at, end, b',"s":"', 6)
        if begin == NULL:
            return CODE_OTHER
        at = name(begin, end, &length)
        if at == NULL:
            return CODE_OTHER
        if self.trades:
            of = self.known(begin, length)
            if of == NULL:
                return CODE_OTHER
        at = literal(at, end, b',"t":', 5)
        if at != NULL:
            at = integer(at, &self.found.final)
        if at != NULL:
            at = literal(at, end, b',"p":"', 6)
        if at != NULL:
            at = self.amount(at, end, of, True)
        if at != NULL:
            at = literal(at, end, b',"q":"', 6)
        if at != NULL:
            at = self.amount(at, end, of, False)
        if at != NULL:
            at = optional_integer(at, end, b',"b":', 5)
        if at != NULL:
            at = optional_integer(at, end, b',"a":', 5)
        if at != NULL:
            at = self.transaction_time(at, end)
        if at == NULL:
            return CODE_OTHER
        begin = literal(at, end, b',"X":"', 6)
        if begin != NULL:
            at = name(begin, end, &length)
            if at == NULL:
                return CODE_OTHER
        begin = literal(at, end, b',"m":true', 9)
        self.found.maker_buys = begin != NULL
        if begin == NULL:
            begin = literal(at, end, b',"m":false', 10)
            if begin == NULL:
                return CODE_OTHER
        at = literal(begin, end, b',"M":true', 9)
        if at == NULL:
            at = begin
        if end - at != 1:
            return CODE_OTHER
        if of == NULL:
            self.ignored += 1
            return CODE_NEXT
        if self.found.size == 0:
            of.prices.seen = of.prices.largest      # neither is that of a trade of nothing
        elif self.found.price == 0:
            return CODE_OTHER
        return CODE_TRADE

    cdef const char *amount(self, const char *at, const char *end, symbol *of,
                            bint is_price) noexcept nogil:
        """Return the position after the price or size of a trade.

        If trades are not wanted, only the form is checked.
        """
        cdef Py_ssize_t length
        if of == NULL:
            return name(at, end, &length)
        if is_price:
            return decimal(at, &of.prices, &self.found.price)
        return decimal(at, &of.sizes, &self.found.size)

    def take_tickers(self, Py_ssize_t index):
        """The tickers of a symbol that were kept since the last call.

        Returns
        -------
        bytes, bytes
            The update ids as uint64; bid price, bid size, ask price and ask size as int64.
        """
        if not 0 <= index < self.symbol_count:
            raise ValueError(f"symbol {index}")
        cdef symbol *of = &self.symbols[index]
        cdef Py_ssize_t count = of.ticker_count, each
        cdef bytes ids = bytes(8 * count)
        cdef bytes best = bytes(32 * count)
        cdef uint64_t *to_ids = <uint64_t *><char *>ids
        cdef int64_t *to_best = <int64_t *><char *>best
        for each in range(count):
            to_ids[each] = of.tickers[each].id
            memcpy(&to_best[4 * each], of.tickers[each].best, 4 * sizeof(int64_t))
        of.ticker_count = 0
        return ids, best

    def has_tickers(self, Py_ssize_t index):
        """Whether tickers of a symbol are kept."""
        return 0 <= index < self.symbol_count and self.symbols[index].ticker_count > 0

    def bids(self):
        """Prices and sizes of the newest diff's bids, as the bytes of int64."""
        cdef Py_ssize_t size = self.found.bids * sizeof(int64_t)
        return (<char *>self.prices)[:size], (<char *>self.sizes)[:size]

    def asks(self):
        """Prices and sizes of the newest diff's asks, as the bytes of int64."""
        cdef Py_ssize_t size = self.found.asks * sizeof(int64_t)
        cdef char *prices = <char *>&self.prices[self.found.bids]
        cdef char *sizes = <char *>&self.sizes[self.found.bids]
        return prices[:size], sizes[:size]

    @property
    def raw(self):
        return self.line_begin[:self.line_end - self.line_begin]

    @property
    def line(self):
        return self.next_line - 1

    @property
    def symbol(self):
        return self.found.symbol

    @property
    def first(self):
        return self.found.first

    @property
    def final(self):
        return self.found.final

    @property
    def previous(self):
        return self.found.previous

    @property
    def has_previous(self):
        return self.found.has_previous

    @property
    def named(self):
        return self.found.named

    @property
    def event_time(self):
        return self.found.event_time

    @property
    def venue_time(self):
        return self.found.venue_time

    @property
    def identity(self):
        return self.found.final

    @property
    def price(self):
        return self.found.price

    @property
    def size(self):
        return self.found.size

    @property
    def maker_buys(self):
        return self.found.maker_buys

    @property
    def time(self):
        return self.newest_time

    @property
    def has_time(self):
        return self.any_time

    @property
    def trades_ignored(self):
        return self.ignored


cdef inline const char *optional_integer(const char *at, const char *end, const char *key,
                                         Py_ssize_t length) noexcept nogil:
    """Return the position after a key and its integer; `at` for another key; NULL if invalid."""
    cdef int64_t value
    cdef const char *begin = literal(at, end, key, length)
    if begin == NULL:
        return at
    return integer(begin, &value)
