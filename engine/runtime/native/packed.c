/* Weights that came from 4 or 8 bits, kept in as many bits again.
 *
 * A decode step is bound by reading the weights. Weights that were unpacked from a 4 or 8 bit format
 * have few bits of content, so they are packed once more, only where every single one comes back
 * exactly: w = scale * q + offset for each group of 32 inputs. The products are summed in the same
 * order as in gemm.c, so they are the same to the last bit. */
#include <math.h>
#include <stdint.h>

#include "levels.h"

enum { TILE_ROWS = 6, TILE_COLUMNS = 4, CHUNK_WEIGHTS = 1 << 16 };

/* The nearest number with an 11-bit significand: every scale of a 16-bit type is one. */
static float to_half_significand(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int pack_group4(const float *w, uint8_t *packed, float *scale, float *offset) {
    float low = w[0], high = w[0];
    for (int i = 1; i < GROUP; i++) {
        low = w[i] < low ? w[i] : low;
        high = w[i] > high ? w[i] : high;
    }
    *offset = low;
    *scale = to_half_significand((high - low) / 15.0f);
    memset(packed, 0, GROUP / 2);
    for (int i = 0; i < GROUP; i++) {
        const float level = *scale > 0.0f ? rintf((w[i] - low) / *scale) : 0.0f;
        if (!(level >= 0.0f && level <= 15.0f) || *scale * level + low != w[i]) return 0;
        packed[i % (GROUP / 2)] |= (uint8_t)((int)level << (i < GROUP / 2 ? 0 : 4));
    }
    return 1;
}

static int pack_group8(const float *w, uint8_t *packed, float *scale, float *offset) {
    float highest = 0.0f;
    for (int i = 0; i < GROUP; i++) highest = fabsf(w[i]) > highest ? fabsf(w[i]) : highest;
    *scale = to_half_significand(highest / 127.0f);
    *offset = *scale * -128.0f;
    for (int i = 0; i < GROUP; i++) {
        const float level = *scale > 0.0f ? rintf(w[i] / *scale) : 0.0f;
        if (!(level >= -127.0f && level <= 127.0f) || *scale * level != w[i]) return 0;
        packed[i] = (uint8_t)((int)level + 128);
    }
    return 1;
}

typedef struct {
    const float *w;
    uint8_t *packed;
    float *scales, *offsets;
    long count, bits;
    int inexact;
} packing;

static void pack_chunk(void *context, long chunk) {
    packing *p = context;
    const long groups = CHUNK_WEIGHTS / GROUP, bytes = GROUP * p->bits / 8;
    for (long g = chunk * groups; g < (chunk + 1) * groups && g < p->count / GROUP; g++) {
        const float *w = p->w + g * GROUP;
        uint8_t *to = p->packed + g * bytes;
        const int exact = p->bits == 4 ? pack_group4(w, to, p->scales + g, p->offsets + g)
                                       : pack_group8(w, to, p->scales + g, p->offsets + g);
        if (!exact) __atomic_store_n(&p->inexact, 1, __ATOMIC_RELAXED);
        if (__atomic_load_n(&p->inexact, __ATOMIC_RELAXED)) return;
    }
}

/* Packs `count` weights, a multiple of 32, into 4 or 8 bits each, with one scale and one offset per
 * group. Returns 0 when every weight comes back exactly, 1 (and undefined contents) when not. */
API int stoker_pack(const float *w, uint8_t *packed, float *scales, float *offsets, long count,
                    long bits) {
    packing p = {w, packed, scales, offsets, count, bits, 0};
    pool_run(pack_chunk, &p, (count + CHUNK_WEIGHTS - 1) / CHUNK_WEIGHTS);
    return p.inexact;
}

typedef struct {
    const float *x, *scales, *offsets, *bias;
    const uint8_t *packed;
    float *y;
    long m, n, k, chunk_columns;
} product;

INLINE void multiply_tile(const product *p, long row, long column, const int rows,
                          const int columns, const int bits) {
    vec sums[TILE_ROWS][TILE_COLUMNS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < TILE_COLUMNS; j++) sums[i][j] = splat(0.0f);
    const long groups = p->k / GROUP, group_bytes = GROUP * bits / 8;
    const uint8_t *packed = p->packed + column * groups * group_bytes;
    const float *scales = p->scales + column * groups, *offsets = p->offsets + column * groups;
    const float *x = p->x + row * p->k;
    for (long group = 0; group < groups; group++) {
        for (int v = 0; v < GROUP / LANES; v++) {
            vec weights[TILE_COLUMNS];
            for (int j = 0; j < columns; j++) {
                const long g = j * groups + group;
                weights[j] = unpack(packed + g * group_bytes, v, bits) * scales[g] + offsets[g];
            }
            for (int i = 0; i < rows; i++) {
                const vec inputs = load(x + i * p->k + group * GROUP + v * LANES);
                for (int j = 0; j < columns; j++) sums[i][j] += inputs * weights[j];
            }
        }
        __builtin_prefetch(packed + (columns * groups + group) * group_bytes);
    }
    for (int i = 0; i < rows; i++) {
        const quad sum = sum_four(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
        for (int j = 0; j < columns; j++)
            p->y[(row + i) * p->n + column + j] = sum[j] + (p->bias ? p->bias[column + j] : 0.0f);
    }
}

INLINE void multiply_columns(const product *p, long column, const int columns, const int bits) {
    long row = 0;
    for (; row + TILE_ROWS <= p->m; row += TILE_ROWS)
        multiply_tile(p, row, column, TILE_ROWS, columns, bits);
    const long rest = p->m - row;
    if (rest == 5) multiply_tile(p, row, column, 5, columns, bits);
    else if (rest == 4) multiply_tile(p, row, column, 4, columns, bits);
    else if (rest == 3) multiply_tile(p, row, column, 3, columns, bits);
    else if (rest == 2) multiply_tile(p, row, column, 2, columns, bits);
    else if (rest == 1) multiply_tile(p, row, column, 1, columns, bits);
}

INLINE void multiply_range(const product *p, long chunk, const int bits) {
    long column = chunk * p->chunk_columns;
    const long end = column + p->chunk_columns < p->n ? column + p->chunk_columns : p->n;
    for (; column + TILE_COLUMNS <= end; column += TILE_COLUMNS)
        multiply_columns(p, column, TILE_COLUMNS, bits);
    for (; column < end; column++) multiply_columns(p, column, 1, bits);
}

static void multiply_chunk4(void *context, long chunk) { multiply_range(context, chunk, 4); }
static void multiply_chunk8(void *context, long chunk) { multiply_range(context, chunk, 8); }

typedef struct {
    const uint8_t *packed;
    const float *scales, *offsets;
    float *w;
    long count, bits;
} unpacking;

INLINE void unpack_groups(const unpacking *p, long first, long end, const int bits) {
    for (long g = first; g < end; g++)
        for (int v = 0; v < GROUP / LANES; v++)
            store(p->w + g * GROUP + v * LANES,
                  unpack(p->packed + g * (GROUP * bits / 8), v, bits) * p->scales[g] +
                      p->offsets[g]);
}

static void unpack_chunk(void *context, long chunk) {
    const unpacking *p = context;
    const long groups = CHUNK_WEIGHTS / GROUP, first = chunk * groups, last = p->count / GROUP;
    const long end = first + groups < last ? first + groups : last;
    if (p->bits == 4) unpack_groups(p, first, end, 4);
    else unpack_groups(p, first, end, 8);
}

/* The reverse of stoker_pack. */
API void stoker_unpack(const uint8_t *packed, const float *scales, const float *offsets, float *w,
                       long count, long bits) {
    unpacking p = {packed, scales, offsets, w, count, bits};
    pool_run(unpack_chunk, &p, (count + CHUNK_WEIGHTS - 1) / CHUNK_WEIGHTS);
}

/* y[m, n] = x[m, k] w[n, k]^T + bias[n] for packed weights; bias may be null. */
API void stoker_linear_packed(const float *x, const uint8_t *packed, const float *scales,
                              const float *offsets, const float *bias, float *y, long m, long n,
                              long k, long bits) {
    const long columns = CHUNK_WEIGHTS / k / TILE_COLUMNS * TILE_COLUMNS;
    product p = {x, scales, offsets, bias, packed, y, m, n, k,
                 columns > TILE_COLUMNS ? columns : TILE_COLUMNS};
    pool_run(bits == 4 ? multiply_chunk4 : multiply_chunk8, &p,
             (n + p.chunk_columns - 1) / p.chunk_columns);
}
