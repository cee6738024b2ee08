/* One tile of attention: some query rows of one sequence and kv head, over a range of keys.
 *
 * The scores of a tile lie key by key with the query rows in lanes, so the running maximum and sum
 * need no work across lanes (Milakov and Gimelshein, "Online normalizer calculation for softmax",
 * arXiv:1805.02867). Heads that share keys and values are rows of the same tile. */
#ifndef STOKER_ATTENTION_TILE_H
#define STOKER_ATTENTION_TILE_H

#include <stdint.h>

#include "quantised.h"

enum {
    TILE_KEYS = 64,
    ROW_VECS = 4,
    TILE_ROWS = ROW_VECS * LANES,
    MAX_WIDTH = 256,
    COLUMN_VECS = 4,
    FEW_ROWS = 8,
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
    const quantised *rows; /* each sequence's keys and values where they are quantised, or null */
    long group_size;
    int bits;
} attention;

typedef struct {
    float queries[MAX_WIDTH][TILE_ROWS];
    float few_queries[FEW_ROWS][MAX_WIDTH];
    float scores[TILE_KEYS][TILE_ROWS];
    float sums[TILE_ROWS][MAX_WIDTH];
    float highest[TILE_ROWS], total[TILE_ROWS], shrink[TILE_ROWS];
    float unpacked[TILE_KEYS * MAX_WIDTH];
    long visible[TILE_ROWS];
    long num_rows, first_row, kv_head;
} tile;

/* Whether lanes run along the width instead of the rows, for a decode step. The rows of a prompt
 * are summed in one order wherever its slices end. */
INLINE int is_narrow(const attention *a, const tile *t) {
    return !a->causal && t->num_rows <= FEW_ROWS && a->width % LANES == 0;
}

/* A query as quantised keys want it: turned, and in the order that they are unpacked in. */
static void turn_query(const attention *a, const float *from, float *to) {
    float turned[MAX_WIDTH];
    const float factor = query_factor(turned_block(a->width));
    memcpy(turned, from, (size_t)a->width * sizeof(float));
    turn(turned, a->width);
    for (long at = 0; at < a->width; at++) to[at] = turned[unpacked_from(at, a->bits)] * factor;
}

static void begin(const attention *a, const sequence *s, tile *t) {
    float turned[MAX_WIDTH];
    const int narrow = is_narrow(a, t);
    for (long row = 0; row < TILE_ROWS; row++) {
        const long index = t->first_row + row, query = index / a->group;
        t->highest[row] = NOT_VISIBLE;
        t->total[row] = 0.0f;
        if (row >= t->num_rows) {
            t->visible[row] = s->num_keys;
            for (long at = 0; !narrow && at < a->width; at++) t->queries[at][row] = 0.0f;
            continue;
        }
        t->visible[row] = a->causal ? s->num_keys - s->num_queries + query + 1 : s->num_keys;
        const long head = t->kv_head * a->group + index % a->group;
        const float *from = s->queries + query * s->query_row + head * s->query_head;
        if (a->rows) {
            turn_query(a, from, turned);
            from = turned;
        }
        float *to = narrow ? t->few_queries[row] : &t->queries[0][row];
        const long step = narrow ? 1 : TILE_ROWS;
        for (long at = 0; at < a->width; at++) to[at * step] = from[at] * a->scale;
        memset(t->sums[row], 0, (size_t)a->value_width * sizeof(float));
    }
    /* Lanes without a row are computed along; they must hold ordinary numbers. */
    for (long key = 0; narrow && key < TILE_KEYS; key++) store(t->scores[key], splat(0.0f));
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

/* The same for a handful of rows, which would leave most lanes empty: lanes run along the width. */
INLINE void score_few(const attention *a, const sequence *s, tile *t, const float *keys,
                      float (*scores)[TILE_ROWS], long row, const int rows, const int count) {
    vec dots[4][4];
    for (int i = 0; i < rows; i++)
        for (int key = 0; key < 4; key++) dots[i][key] = splat(0.0f);
    for (long at = 0; at < a->width; at += LANES) {
        vec part[4];
        for (int key = 0; key < count; key++) part[key] = load(keys + key * s->key_row + at);
        for (int i = 0; i < rows; i++) {
            const vec query = load(t->few_queries[row + i] + at);
            for (int key = 0; key < count; key++) dots[i][key] += query * part[key];
        }
    }
    for (int i = 0; i < rows; i++) {
        const quad sums = sum_four(dots[i][0], dots[i][1], dots[i][2], dots[i][3]);
        for (int key = 0; key < count; key++) scores[key][row + i] = sums[key];
    }
}

INLINE void score_few_keys(const attention *a, const sequence *s, tile *t, const float *keys,
                           float (*scores)[TILE_ROWS], const int count) {
    long row = 0;
    for (; row + 4 <= t->num_rows; row += 4) score_few(a, s, t, keys, scores, row, 4, count);
    const long rest = t->num_rows - row;
    if (rest == 3) score_few(a, s, t, keys, scores, row, 3, count);
    else if (rest == 2) score_few(a, s, t, keys, scores, row, 2, count);
    else if (rest == 1) score_few(a, s, t, keys, scores, row, 1, count);
}

static void score_few_tile(const attention *a, const sequence *s, tile *t, long first,
                           long count) {
    const float *keys = s->keys + t->kv_head * s->key_head + first * s->key_row;
    long key = 0;
    for (; key + 4 <= count; key += 4)
        score_few_keys(a, s, t, keys + key * s->key_row, t->scores + key, 4);
    for (; key < count; key++)
        score_few_keys(a, s, t, keys + key * s->key_row, t->scores + key, 1);
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
        if (a->rows)
            for (long at = 0; at < a->value_width; at++)
                to[unpacked_from(at, a->bits)] = t->sums[row][at] * share;
        else
            for (long at = 0; at < a->value_width; at++) to[at] = t->sums[row][at] * share;
    }
}

#endif
