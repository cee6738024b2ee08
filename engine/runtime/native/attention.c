/* Softmax attention over each sequence's own keys and values.
 *
 * A decode step's keys are split into parts of a fixed length, so that one long sequence keeps every
 * thread busy and still is summed in the same order whatever else runs. */
#include <stdlib.h>

#include "attention_tile.h"

enum { PART_KEYS = 1024 };

static long num_tiles(const attention *a, const sequence *s) {
    return (s->num_queries * a->group + TILE_ROWS - 1) / TILE_ROWS;
}

static long num_parts(const attention *a, const sequence *s) {
    return a->causal || num_tiles(a, s) > 1 ? 1 : (s->num_keys + PART_KEYS - 1) / PART_KEYS;
}

static long num_chunks(const attention *a, const sequence *s) {
    return num_tiles(a, s) * num_parts(a, s) * a->num_kv_heads;
}

/* Floats that one chunk leaves in `partial`. */
static long partial_size(const attention *a) { return TILE_ROWS * (a->value_width + 2); }

/* The same sequence with a tile of its keys, or of its values, as plain numbers. */
static sequence unpacked(const attention *a, const sequence *s, tile *t, const int values,
                         long first, long count) {
    const quantised *rows = a->rows + 2 * (s - a->sequences) + values;
    const long width = values ? a->value_width : a->width, group = a->group_size;
    if (a->bits == 4)
        unpack_rows_of(rows, t->kv_head, first, count, width, group, t->unpacked, 4);
    else unpack_rows_of(rows, t->kv_head, first, count, width, group, t->unpacked, 8);
    sequence plain = *s;
    plain.keys = plain.values = t->unpacked;
    plain.key_head = plain.value_head = 0;
    plain.key_row = plain.value_row = width;
    return plain;
}

static void score(const attention *a, const sequence *s, tile *t, long first, long count) {
    if (is_narrow(a, t)) score_few_tile(a, s, t, first, count);
    else if (t->num_rows <= LANES) score_tile(a, s, t, first, count, 1, 8);
    else score_tile(a, s, t, first, count, ROW_VECS, 4);
}

static void weigh_and_hide(tile *t, long first, long count) {
    if (first + count > t->visible[0]) hide_future(t, first, count);
    if (t->num_rows <= LANES) weigh(t, count, 1);
    else weigh(t, count, ROW_VECS);
}

static void attend_keys(const attention *a, const sequence *s, tile *t, long first, long end) {
    for (; first < end; first += TILE_KEYS) {
        const long count = end - first < TILE_KEYS ? end - first : TILE_KEYS;
        if (!a->rows) {
            score(a, s, t, first, count);
            weigh_and_hide(t, first, count);
            mix(a, s, t, first, count);
            continue;
        }
        sequence plain = unpacked(a, s, t, 0, first, count);
        score(a, &plain, t, 0, count);
        weigh_and_hide(t, first, count);
        plain = unpacked(a, s, t, 1, first, count);
        mix(a, &plain, t, 0, count);
    }
}

static void keep_part(const attention *a, const tile *t, float *partial) {
    float *highest = partial + TILE_ROWS * a->value_width, *total = highest + TILE_ROWS;
    for (long row = 0; row < t->num_rows; row++) {
        memcpy(partial + row * a->value_width, t->sums[row], (size_t)a->value_width * sizeof(float));
        highest[row] = t->highest[row];
        total[row] = t->total[row];
    }
}

/* Brings the parts of a tile together, in order. */
static void join_parts(const attention *a, tile *t, const float *partial, long parts) {
    for (long row = 0; row < t->num_rows; row++) {
        const float *highest = partial + TILE_ROWS * a->value_width + row;
        const float *total = highest + TILE_ROWS;
        float top = NOT_VISIBLE;
        t->total[row] = 0.0f;
        memset(t->sums[row], 0, (size_t)a->value_width * sizeof(float));
        for (long part = 0; part < parts; part++)
            if (highest[part * partial_size(a)] > top) top = highest[part * partial_size(a)];
        for (long part = 0; part < parts; part++) {
            const long at = part * partial_size(a);
            const float share = exp_lanes(splat(highest[at] - top))[0];
            const float *sums = partial + at + row * a->value_width;
            for (long column = 0; column < a->value_width; column++)
                t->sums[row][column] += sums[column] * share;
            t->total[row] += total[at] * share;
        }
    }
}

static void attend_chunk(void *context, long chunk) {
    const attention *a = context;
    float *partial = a->partial;
    const sequence *s = a->sequences;
    for (; chunk >= num_chunks(a, s); s++) {
        chunk -= num_chunks(a, s);
        if (num_parts(a, s) > 1) partial += num_chunks(a, s) * partial_size(a);
    }
    const long parts = num_parts(a, s), tiles = num_tiles(a, s);
    tile t;
    t.kv_head = chunk / parts % a->num_kv_heads;
    /* Later queries see more keys: the longest tiles go first. */
    t.first_row = (tiles - 1 - chunk / parts / a->num_kv_heads) * TILE_ROWS;
    const long rest = s->num_queries * a->group - t.first_row;
    t.num_rows = rest < TILE_ROWS ? rest : TILE_ROWS;
    begin(a, s, &t);
    const long num_keys = t.visible[t.num_rows - 1], first = chunk % parts * PART_KEYS;
    const long end = parts > 1 && first + PART_KEYS < num_keys ? first + PART_KEYS : num_keys;
    attend_keys(a, s, &t, first, end);
    if (parts > 1) keep_part(a, &t, partial + chunk * partial_size(a));
    else finish(a, s, &t);
}

static void join_all(const attention *a) {
    const float *partial = a->partial;
    for (long i = 0; i < a->num_sequences; i++) {
        const sequence *s = a->sequences + i;
        const long parts = num_parts(a, s);
        if (parts == 1) continue;
        for (long head = 0; head < a->num_kv_heads; head++) {
            tile t; /* large: only what is read is set */
            t.kv_head = head;
            t.first_row = 0;
            t.num_rows = s->num_queries * a->group;
            join_parts(a, &t, partial, parts);
            finish(a, s, &t);
            partial += parts * partial_size(a);
        }
    }
}

static int attend_all(attention *a) {
    const long width = a->width, value_width = a->value_width;
    if (width > MAX_WIDTH || value_width > MAX_WIDTH || value_width % LANES) return 1;
    if (a->rows && (width % a->group_size || value_width % a->group_size)) return 1;
    long chunks = 0, chunks_of_parts = 0;
    for (long i = 0; i < a->num_sequences; i++) {
        chunks += num_chunks(a, a->sequences + i);
        if (num_parts(a, a->sequences + i) > 1) chunks_of_parts += num_chunks(a, a->sequences + i);
    }
    if (chunks_of_parts) {
        a->partial = malloc((size_t)(chunks_of_parts * partial_size(a)) * sizeof(float));
        if (!a->partial) return 1;
    }
    pool_run(attend_chunk, a, chunks);
    if (chunks_of_parts) join_all(a);
    free(a->partial);
    return 0;
}

/* Attention of every sequence's queries over its own keys. Returns 0, or 1 where the widths are
 * not ones this kernel does. When causal, the last query sees the last key. */
API int stoker_attention(const sequence *sequences, long num_sequences, long num_heads,
                         long num_kv_heads, long width, long value_width, float scale,
                         int causal) {
    attention a = {sequences, num_sequences, num_kv_heads, num_heads / num_kv_heads,
                   width,     value_width,   scale,        causal,
                   NULL,      NULL,          0,            0};
    return attend_all(&a);
}

/* The same over quantised rows: for each sequence its keys, which are turned, and its values. */
API int stoker_attention_quantised(const sequence *sequences, const quantised *rows,
                                   long num_sequences, long num_heads, long num_kv_heads,
                                   long width, long value_width, float scale, int causal,
                                   long group_size, int bits) {
    attention a = {sequences, num_sequences, num_kv_heads, num_heads / num_kv_heads,
                   width,     value_width,   scale,        causal,
                   NULL,      rows,          group_size,   bits};
    return attend_all(&a);
}
