/* Softmax attention over each sequence's own keys and values, tile by tile.
 *
 * The scores of a tile lie key by key with the query rows in lanes, so the running maximum and sum
 * need no work across lanes (Milakov and Gimelshein, "Online normalizer calculation for softmax",
 * arXiv:1805.02867). Heads that share keys and values are rows of the same tile. A sequence with one
 * tile of queries has its keys split into parts of a fixed length, so that one long sequence keeps
 * every thread busy and still is summed in the same order whatever else runs. */
#include <stdint.h>
#include <stdlib.h>

#include "stoker.h"

enum {
    TILE_KEYS = 64,
    ROW_VECS = 4,
    TILE_ROWS = ROW_VECS * LANES,
    MAX_WIDTH = 256,
    COLUMN_VECS = 4,
    PART_KEYS = 1024,
};

static const float NOT_VISIBLE = -1e30f;

/* One sequence: addresses, counts, and strides in floats. */
typedef struct {
    const float *queries, *keys, *values;
    float *output;
    int64_t num_queries, num_keys;
    int64_t query_row, query_head, key_row, key_head, value_row, value_head;
    int64_t output_row, output_head;
} sequence;

typedef struct {
    const sequence *sequences;
    long num_sequences, num_kv_heads, group, width, value_width;
    float scale;
    int causal;
    float *partial; /* sums, highest score and total of each row of each part, part by part */
} attention;

typedef struct {
    float queries[MAX_WIDTH][TILE_ROWS];
    float scores[TILE_KEYS][TILE_ROWS];
    float sums[TILE_ROWS][MAX_WIDTH];
    float highest[TILE_ROWS], total[TILE_ROWS], shrink[TILE_ROWS];
    long visible[TILE_ROWS];
    long num_rows, first_row, kv_head;
} tile;

static long num_tiles(const attention *a, const sequence *s) {
    return (s->num_queries * a->group + TILE_ROWS - 1) / TILE_ROWS;
}

static long num_parts(const attention *a, const sequence *s) {
    return num_tiles(a, s) > 1 ? 1 : (s->num_keys + PART_KEYS - 1) / PART_KEYS;
}

static long num_chunks(const attention *a, const sequence *s) {
    return num_tiles(a, s) * num_parts(a, s) * a->num_kv_heads;
}

/* Floats that one chunk leaves in `partial`. */
static long partial_size(const attention *a) { return TILE_ROWS * (a->value_width + 2); }

static void begin(const attention *a, const sequence *s, tile *t) {
    for (long row = 0; row < TILE_ROWS; row++) {
        const long index = t->first_row + row, query = index / a->group;
        t->highest[row] = NOT_VISIBLE;
        t->total[row] = 0.0f;
        if (row >= t->num_rows) {
            t->visible[row] = s->num_keys;
            for (long at = 0; at < a->width; at++) t->queries[at][row] = 0.0f;
            continue;
        }
        t->visible[row] = a->causal ? s->num_keys - s->num_queries + query + 1 : s->num_keys;
        const long head = t->kv_head * a->group + index % a->group;
        const float *from = s->queries + query * s->query_row + head * s->query_head;
        for (long at = 0; at < a->width; at++) t->queries[at][row] = from[at] * a->scale;
        memset(t->sums[row], 0, (size_t)a->value_width * sizeof(float));
    }
}

/* scores[key][row] = keys[key] . queries[row], for `count` keys and `vecs` lanes of rows. */
INLINE void score_keys(const attention *a, const sequence *s, tile *t, const float *keys,
                       float (*scores)[TILE_ROWS], const int count, const int vecs) {
    vec dots[8][ROW_VECS];
    for (int key = 0; key < count; key++)
        for (int v = 0; v < vecs; v++) dots[key][v] = splat(0.0f);
    for (long at = 0; at < a->width; at++) {
        vec rows[ROW_VECS];
        for (int v = 0; v < vecs; v++) rows[v] = load(t->queries[at] + v * LANES);
        for (int key = 0; key < count; key++) {
            const vec value = splat(keys[key * s->key_row + at]);
            for (int v = 0; v < vecs; v++) dots[key][v] += value * rows[v];
        }
    }
    for (int key = 0; key < count; key++)
        for (int v = 0; v < vecs; v++) store(scores[key] + v * LANES, dots[key][v]);
}

INLINE void score_tile(const attention *a, const sequence *s, tile *t, long first, long count,
                       const int vecs, const int step) {
    const float *keys = s->keys + t->kv_head * s->key_head + first * s->key_row;
    long key = 0;
    for (; key + step <= count; key += step)
        score_keys(a, s, t, keys + key * s->key_row, t->scores + key, step, vecs);
    for (; key < count; key++)
        score_keys(a, s, t, keys + key * s->key_row, t->scores + key, 1, vecs);
}

static void hide_future(tile *t, long first, long count) {
    for (long row = 0; row < t->num_rows; row++)
        for (long key = t->visible[row] - first; key < count; key++)
            if (key >= 0) t->scores[key][row] = NOT_VISIBLE;
}

/* Turns scores into weights and keeps the running maximum and sum. */
INLINE void weigh(tile *t, long count, const int vecs) {
    for (int v = 0; v < vecs; v++) {
        const long lane = v * LANES;
        const vec before = load(t->highest + lane);
        vec highest = before;
        for (long key = 0; key < count; key++) {
            const vec score = load(t->scores[key] + lane);
            highest = choose(score > highest, score, highest);
        }
        vec total = splat(0.0f);
        for (long key = 0; key < count; key++) {
            const vec weight = exp_lanes(load(t->scores[key] + lane) - highest);
            store(t->scores[key] + lane, weight);
            total += weight;
        }
        const vec shrink = exp_lanes(before - highest);
        store(t->shrink + lane, shrink);
        store(t->highest + lane, highest);
        store(t->total + lane, load(t->total + lane) * shrink + total);
    }
}

INLINE void mix_rows(const sequence *s, tile *t, const float *values, long count, long row,
                     long column, const int rows, const int vecs) {
    vec sums[4][COLUMN_VECS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vecs; v++)
            sums[i][v] = load(t->sums[row + i] + column + v * LANES) * t->shrink[row + i];
    for (long key = 0; key < count; key++) {
        vec value[COLUMN_VECS];
        for (int v = 0; v < vecs; v++)
            value[v] = load(values + key * s->value_row + column + v * LANES);
        for (int i = 0; i < rows; i++) {
            const vec weight = splat(t->scores[key][row + i]);
            for (int v = 0; v < vecs; v++) sums[i][v] += weight * value[v];
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vecs; v++)
            store(t->sums[row + i] + column + v * LANES, sums[i][v]);
}

INLINE void mix_columns(const sequence *s, tile *t, const float *values, long count, long column,
                        const int vecs) {
    long row = 0;
    for (; row + 4 <= t->num_rows; row += 4)
        mix_rows(s, t, values, count, row, column, 4, vecs);
    if (t->num_rows - row == 3) mix_rows(s, t, values, count, row, column, 3, vecs);
    else if (t->num_rows - row == 2) mix_rows(s, t, values, count, row, column, 2, vecs);
    else if (t->num_rows - row == 1) mix_rows(s, t, values, count, row, column, 1, vecs);
}

static void mix(const attention *a, const sequence *s, tile *t, long first, long count) {
    const float *values = s->values + t->kv_head * s->value_head + first * s->value_row;
    long column = 0;
    for (; column + COLUMN_VECS * LANES <= a->value_width; column += COLUMN_VECS * LANES)
        mix_columns(s, t, values, count, column, COLUMN_VECS);
    for (; column < a->value_width; column += LANES)
        mix_columns(s, t, values, count, column, 1);
}

static void finish(const attention *a, const sequence *s, tile *t) {
    for (long row = 0; row < t->num_rows; row++) {
        const long index = t->first_row + row;
        const long head = t->kv_head * a->group + index % a->group;
        float *to = s->output + index / a->group * s->output_row + head * s->output_head;
        const float share = 1.0f / t->total[row];
        for (long at = 0; at < a->value_width; at++) to[at] = t->sums[row][at] * share;
    }
}

static void attend_keys(const attention *a, const sequence *s, tile *t, long first, long end) {
    for (; first < end; first += TILE_KEYS) {
        const long count = end - first < TILE_KEYS ? end - first : TILE_KEYS;
        const int few = t->num_rows <= LANES;
        if (few) score_tile(a, s, t, first, count, 1, 8);
        else score_tile(a, s, t, first, count, ROW_VECS, 4);
        if (first + count > t->visible[0]) hide_future(t, first, count);
        if (few) weigh(t, count, 1);
        else weigh(t, count, ROW_VECS);
        mix(a, s, t, first, count);
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
            tile t = {.kv_head = head, .num_rows = s->num_queries * a->group};
            join_parts(a, &t, partial, parts);
            finish(a, s, &t);
            partial += parts * partial_size(a);
        }
    }
}

/* Attention of every sequence's queries over its own keys. Returns 0, or 1 where the widths are
 * not ones this kernel does. When causal, the last query sees the last key. */
API int stoker_attention(const sequence *sequences, long num_sequences, long num_heads,
                         long num_kv_heads, long width, long value_width, float scale,
                         int causal) {
    if (width > MAX_WIDTH || value_width > MAX_WIDTH || value_width % LANES) return 1;
    attention a = {sequences, num_sequences, num_kv_heads, num_heads / num_kv_heads,
                   width,     value_width,   scale,        causal,
                   NULL};
    long chunks = 0, chunks_of_parts = 0;
    for (long i = 0; i < num_sequences; i++) {
        chunks += num_chunks(&a, sequences + i);
        if (num_parts(&a, sequences + i) > 1) chunks_of_parts += num_chunks(&a, sequences + i);
    }
    if (chunks_of_parts) {
        a.partial = malloc((size_t)(chunks_of_parts * partial_size(&a)) * sizeof(float));
        if (!a.partial) return 1;
    }
    pool_run(attend_chunk, &a, chunks);
    if (chunks_of_parts) join_all(&a);
    free(a.partial);
    return 0;
}
