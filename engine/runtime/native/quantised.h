/* Rows of keys or values in 4 or 8 bits, as mlx packs them: number = scale * level + offset, with one
 * scale and one offset per group of a row, both 16-bit floats.
 *
 * Keys are turned by a Hadamard matrix before they are quantised, and queries before they meet them:
 * their products stay the same, and a number that stands out is spread over its row. */
#ifndef STOKER_QUANTISED_H
#define STOKER_QUANTISED_H

#include "levels.h"

/* Addresses of the first row, and strides from head to head. */
typedef struct {
    const uint8_t *levels;
    const uint16_t *scales, *offsets;
    int64_t level_head, scale_head;
} quantised;

/* The largest power of two that divides a width; rows are turned in blocks of so many. */
INLINE long turned_block(long width) { return width & -width; }

/* The larger and the smaller half of the power of two that brings a turned row back to size. */
INLINE float key_factor(long block) {
    float factor = 1.0f;
    for (; block >= 4; block /= 4) factor *= 0.5f;
    return factor;
}

INLINE float query_factor(long block) { return 1.0f / ((float)block * key_factor(block)); }

/* A Walsh-Hadamard transform of each block of a row, in place. */
INLINE void turn(float *row, long width) {
    const long block = turned_block(width);
    for (long half = 1; half < block; half *= 2)
        for (long start = 0; start < width; start += 2 * half)
            for (long at = start; at < start + half; at++) {
                const float a = row[at], b = row[at + half];
                row[at] = a + b;
                row[at + half] = a - b;
            }
}

/* Where in a row the number lies that is unpacked to place `at`: of 4-bit levels the even ones of
 * every 32 come first. */
INLINE long unpacked_from(long at, int bits) {
    if (bits == 8) return at;
    const long in_group = at % GROUP, half = GROUP / 2;
    return at - in_group + (in_group < half ? 2 * in_group : 2 * (in_group - half) + 1);
}

/* Rows `first` and on of one head as numbers, in the order of `unpacked_from`. */
INLINE void unpack_rows_of(const quantised *rows, long head, long first, long count, long width,
                           long group, float *to, const int bits) {
    enum { SOME = 128 };
    const long row_bytes = width * bits / 8, row_groups = width / group;
    const uint8_t *levels = rows->levels + head * rows->level_head + first * row_bytes;
    const uint16_t *scales = rows->scales + head * rows->scale_head + first * row_groups;
    const uint16_t *offsets = rows->offsets + head * rows->scale_head + first * row_groups;
    for (long at = 0; at < count * row_groups; at += SOME) {
        const long some = count * row_groups - at < SOME ? count * row_groups - at : SOME;
        float scale[SOME], offset[SOME];
        for (long i = 0; i < some; i++) scale[i] = from_half(scales[at + i]);
        for (long i = 0; i < some; i++) offset[i] = from_half(offsets[at + i]);
        for (long i = 0; i < some; i++)
            for (long part = 0; part < group; part += GROUP) {
                const long place = (at + i) * group + part;
                for (int v = 0; v < GROUP / LANES; v++)
                    store(to + place + v * LANES,
                          unpack(levels + place * bits / 8, v, bits) * scale[i] + offset[i]);
            }
    }
}

#endif
