/* The parts of a layer that work on one element or one row at a time. */
#include <math.h>
#include <stdint.h>

#include "stoker.h"

enum { CHUNK_FLOATS = 1 << 14 };

typedef struct {
    const float *x, *w;
    float *y;
    long num_rows, width, chunk_rows;
    float epsilon;
} normalization;

static void normalize_row(const normalization *p, long row) {
    const float *x = p->x + row * p->width;
    float *y = p->y + row * p->width;
    vec squares = splat(0.0f);
    long at = 0;
    for (; at + LANES <= p->width; at += LANES) squares += load(x + at) * load(x + at);
    float total = sum_lanes(squares);
    for (; at < p->width; at++) total += x[at] * x[at];
    const float factor = 1.0f / sqrtf(total / (float)p->width + p->epsilon);
    for (at = 0; at < p->width; at++) y[at] = x[at] * factor * p->w[at];
}

static void normalize_chunk(void *context, long chunk) {
    const normalization *p = context;
    const long first = chunk * p->chunk_rows;
    for (long row = first; row < first + p->chunk_rows && row < p->num_rows; row++)
        normalize_row(p, row);
}

/* y = x / sqrt(mean(x^2) + epsilon) * w, row by row; y may be x. */
API void stoker_rms_norm(const float *x, const float *w, float *y, long num_rows, long width,
                         float epsilon) {
    const long chunk_rows = CHUNK_FLOATS / width + 1;
    normalization p = {x, w, y, num_rows, width, chunk_rows, epsilon};
    pool_run(normalize_chunk, &p, (num_rows + chunk_rows - 1) / chunk_rows);
}

typedef struct {
    const float *gate, *up;
    float *y;
    long count;
} gating;

INLINE vec silu_times(vec gate, vec up) { return gate / (1.0f + exp_lanes(-gate)) * up; }

static void gate_chunk(void *context, long chunk) {
    const gating *p = context;
    long at = chunk * CHUNK_FLOATS;
    const long end = at + CHUNK_FLOATS < p->count ? at + CHUNK_FLOATS : p->count;
    for (; at + LANES <= end; at += LANES)
        store(p->y + at, silu_times(load(p->gate + at), load(p->up + at)));
    if (at < end) {
        const vec last =
            silu_times(load_part(p->gate + at, end - at), load_part(p->up + at, end - at));
        memcpy(p->y + at, &last, (size_t)(end - at) * sizeof(float));
    }
}

/* y = gate * sigmoid(gate) * up; y may be gate or up. */
API void stoker_swiglu(const float *gate, const float *up, float *y, long count) {
    gating p = {gate, up, y, count};
    pool_run(gate_chunk, &p, (count + CHUNK_FLOATS - 1) / CHUNK_FLOATS);
}

typedef struct {
    float *x;
    const float *cosines, *sines;
    const int64_t *positions;
    long num_rows, num_heads, width, half, chunk_rows;
    int interleaved;
} rotation;

static void rotate_head(const rotation *p, float *x, const float *cosine, const float *sine) {
    const long step = p->interleaved ? 2 : 1, other = p->interleaved ? 1 : p->half;
    for (long pair = 0; pair < p->half; pair++) {
        float *first = x + pair * step, *second = first + other;
        const float a = *first, b = *second;
        *first = a * cosine[pair] - b * sine[pair];
        *second = a * sine[pair] + b * cosine[pair];
    }
}

static void rotate_chunk(void *context, long chunk) {
    const rotation *p = context;
    const long start = chunk * p->chunk_rows;
    for (long row = start; row < start + p->chunk_rows && row < p->num_rows; row++) {
        const long turn = p->positions[row] * p->half;
        for (long head = 0; head < p->num_heads; head++)
            rotate_head(p, p->x + (row * p->num_heads + head) * p->width, p->cosines + turn,
                        p->sines + turn);
    }
}

/* Turns x[num_rows, num_heads, width] in place, each row by its position's angles.
 * Pairs are (i, i + half), or (2 i, 2 i + 1) when interleaved; lanes past 2 half stay. */
API void stoker_rope(float *x, const float *cosines, const float *sines, const int64_t *positions,
                     long num_rows, long num_heads, long width, long half, int interleaved) {
    const long chunk_rows = CHUNK_FLOATS / (num_heads * width) + 1;
    rotation p = {x, cosines, sines, positions, num_rows, num_heads, width, half, chunk_rows,
                  interleaved};
    pool_run(rotate_chunk, &p, (num_rows + chunk_rows - 1) / chunk_rows);
}
