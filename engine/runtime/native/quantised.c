/* Rows of keys and values into 4 or 8 bits. Each row is quantised by itself, so it comes out the same
 * whatever it is appended with. */
#include "quantised.h"

enum { LARGEST_WIDTH = 256, CHUNK_NUMBERS = 1 << 12 };

typedef struct {
    const float *x;
    uint8_t *levels;
    uint16_t *scales, *offsets;
    long level_head, scale_head;
    long num_rows, num_heads, width, group, bits, chunk_rows;
    int turned;
} quantising;

INLINE vec least(vec a, vec b) { return choose(a < b, a, b); }
INLINE vec greatest(vec a, vec b) { return choose(a > b, a, b); }

/* The lowest and the highest number; returns 0 where one is not finite. */
INLINE int range_of(const float *x, long count, float *low, float *high) {
    vec lows = load(x), highs = lows, zeros = lows - lows;
    for (long at = LANES; at < count; at += LANES) {
        const vec part = load(x + at);
        lows = least(part, lows);
        highs = greatest(part, highs);
        zeros += part - part;
    }
    *low = lows[0];
    *high = highs[0];
    for (int lane = 1; lane < LANES; lane++) {
        *low = lows[lane] < *low ? lows[lane] : *low;
        *high = highs[lane] > *high ? highs[lane] : *high;
    }
    return sum_lanes(zeros) == 0.0f;
}

/* Returns the levels' scale and offset through the pointers. */
INLINE void quantise_group(const float *x, long count, uint8_t *levels, uint16_t *scale,
                           uint16_t *offset, const int bits) {
    const float top = bits == 4 ? 15.0f : 255.0f;
    float low, high;
    if (!range_of(x, count, &low, &high)) {
        *scale = *offset = HALF_NAN; /* not a number stays one */
        memset(levels, 0, (size_t)(count * bits / 8));
        return;
    }
    *scale = to_half((high - low) / top);
    *offset = to_half(low);
    const float step = from_half(*scale), start = from_half(*offset);
    const float divisor = step > 0.0f ? step : 1.0f;
    const vec magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    float rounded[LARGEST_WIDTH];
    for (long at = 0; at < count; at += LANES) {
        vec level = ((load(x + at) - start) / divisor + magic) - magic;
        level = greatest(level, splat(0.0f));
        store(rounded + at, least(level, splat(top)));
    }
    if (step == 0.0f) memset(rounded, 0, (size_t)count * sizeof(float));
    if (bits == 8)
        for (long at = 0; at < count; at++) levels[at] = (uint8_t)rounded[at];
    else
        for (long at = 0; at < count / 2; at++)
            levels[at] = (uint8_t)rounded[2 * at] | (uint8_t)((uint8_t)rounded[2 * at + 1] << 4);
}

INLINE void quantise_row(const quantising *p, long row, long head, const int bits) {
    float x[LARGEST_WIDTH];
    memcpy(x, p->x + (row * p->num_heads + head) * p->width, (size_t)p->width * sizeof(float));
    if (p->turned) {
        const float factor = key_factor(turned_block(p->width));
        turn(x, p->width);
        for (long at = 0; at < p->width; at++) x[at] *= factor;
    }
    const long groups = p->width / p->group;
    uint8_t *levels = p->levels + head * p->level_head + row * (p->width * bits / 8);
    const long scales = head * p->scale_head + row * groups;
    for (long g = 0; g < groups; g++)
        quantise_group(x + g * p->group, p->group, levels + g * p->group * bits / 8,
                       p->scales + scales + g, p->offsets + scales + g, bits);
}

static void quantise_chunk(void *context, long chunk) {
    const quantising *p = context;
    const long first = chunk * p->chunk_rows;
    for (long row = first; row < first + p->chunk_rows && row < p->num_rows; row++)
        for (long head = 0; head < p->num_heads; head++)
            if (p->bits == 4) quantise_row(p, row, head, 4);
            else quantise_row(p, row, head, 8);
}

/* Quantises x[num_rows, num_heads, width] to where row `first` of each head begins; strides are from
 * head to head. Returns 1 where the widths are not ones it does. */
API int stoker_quantise(const float *x, uint8_t *levels, uint16_t *scales, uint16_t *offsets,
                        long level_head, long scale_head, long num_rows, long num_heads, long width,
                        long group, long bits, int turned) {
    if (width > LARGEST_WIDTH || group % GROUP || width % group) return 1;
    const long chunk_rows = CHUNK_NUMBERS / (num_heads * width) + 1;
    quantising p = {x,        levels, scales, offsets, level_head, scale_head, num_rows, num_heads,
                    width,    group,  bits,   chunk_rows, turned};
    pool_run(quantise_chunk, &p, (num_rows + chunk_rows - 1) / chunk_rows);
    return 0;
}
