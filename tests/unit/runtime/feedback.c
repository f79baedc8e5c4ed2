/* A strategy that writes down each call, for test_feedback.py; and a producer of reports in C. */

#include <velox/strategy.h>

#include <string.h>

typedef struct call {
    velox_transaction record;
    velox_view view;
} call;

typedef struct notes {
    uint64_t capacity;
    uint64_t count;
    uint64_t answered;      /* a bit for each kind of record that it answers with an order */
    uint64_t wake_after_ns; /* after a record of the market; 0: never */
    uint64_t rewake_after_ns; /* after a timer that it asked for; 0: never */
    uint64_t wake_at_ns;    /* at any record of the market, if not 0 */
    uint64_t fails;         /* a bit for each kind at which it fails */
    uint64_t unused;
    call calls[];
} notes;

int32_t listen(const velox_transaction *record, velox_view *view, velox_transaction *out,
               uint32_t room, void *user_data)
{
    notes *self = user_data;
    uint64_t bit = (uint64_t)1 << record->kind;
    (void)room;
    if (self->count < self->capacity) {
        self->calls[self->count].record = *record;
        self->calls[self->count].view = *view;
    }
    self->count++;
    if (record->kind < VELOX_PLACED && self->wake_after_ns)
        view->timer_at_ns = view->book.now_ns + self->wake_after_ns;
    if (record->kind < VELOX_PLACED && self->wake_at_ns)
        view->timer_at_ns = self->wake_at_ns;
    if (record->kind == VELOX_TIMER && record->size == 0 && self->rewake_after_ns)
        view->timer_at_ns = view->book.now_ns + self->rewake_after_ns - 1;
    if (self->fails & bit)
        return -7;
    if (!(self->answered & bit))
        return 0;
    memset(out, 0, sizeof *out);
    out->id = record->id;
    out->price = 1000000;
    out->size = 1;
    out->market = record->market;
    return 1;
}

const velox_strategy_info listen_info = {
    sizeof(velox_strategy_info), 3, sizeof(notes) + 64 * sizeof(call), 0, 0, 0};

/* Pushes some reports of a kind, numbered from `first`; returns how many were taken. */
uint64_t tell(const velox_reports *reports, uint32_t kind, uint32_t market, uint64_t first,
              uint64_t count)
{
    uint64_t taken = 0;
    for (uint64_t i = 0; i < count; i++) {
        velox_report report;
        memset(&report, 0, sizeof report);
        report.record.id = first + i;
        report.record.kind = (uint8_t)kind;
        report.record.market = (uint8_t)market;
        taken += reports->push(reports->ring, &report, 1);
    }
    return taken;
}
