/* Kernels for the CPU profile: what MLX's own CPU build does slowly.
 *
 * Everything is float32. Each output element is summed in one fixed order that does not depend on
 * the number of rows or threads, so a sequence decodes to the same bits alone and in a batch. */
#ifndef STOKER_H
#define STOKER_H

#include <string.h>
#if defined(__SSE3__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define API __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int ivec __attribute__((vector_size(LANES * 4)));
typedef float quad __attribute__((vector_size(16)));

/* Runs fn(context, chunk) for chunk 0..num_chunks-1 on the pool; returns when all are done. */
typedef void (*chunk_fn)(void *context, long chunk);
void pool_run(chunk_fn fn, void *context, long num_chunks);

INLINE vec load(const float *from) {
    vec value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void store(float *to, vec value) { memcpy(to, &value, sizeof value); }

/* The first `count` lanes from memory, the others zero. */
INLINE vec load_part(const float *from, long count) {
    float lanes[LANES] = {0};
    memcpy(lanes, from, (size_t)count * sizeof(float));
    return load(lanes);
}

INLINE vec splat(float value) { return value - (vec){0}; }

/* Lanes of `yes` where the mask is all ones, of `no` where it is zero. */
INLINE vec choose(ivec mask, vec yes, vec no) {
    return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask));
}

/* Four lanes that add up to the same as all lanes. */
INLINE quad fold(vec value) {
    quad parts[LANES / 4];
    memcpy(parts, &value, sizeof value);
#if LANES == 16
    return (parts[0] + parts[2]) + (parts[1] + parts[3]);
#elif LANES == 8
    return parts[0] + parts[1];
#else
    return parts[0];
#endif
}

/* a0+a1, a2+a3, b0+b1, b2+b3 */
INLINE quad add_pairs(quad a, quad b) {
#if defined(__SSE3__)
    return (quad)_mm_hadd_ps((__m128)a, (__m128)b);
#elif defined(__aarch64__)
    return (quad)vpaddq_f32((float32x4_t)a, (float32x4_t)b);
#else
    return (quad){a[0] + a[1], a[2] + a[3], b[0] + b[1], b[2] + b[3]};
#endif
}

/* The sums of the lanes of four vectors. */
INLINE quad sum_four(vec a, vec b, vec c, vec d) {
    return add_pairs(add_pairs(fold(a), fold(b)), add_pairs(fold(c), fold(d)));
}

INLINE float sum_lanes(vec value) {
    const quad part = fold(value), pairs = add_pairs(part, part);
    return pairs[0] + pairs[1];
}

/* e^x to 2 units in the last place: x = n ln 2 + r, a polynomial in r (Cephes expf), scaled by 2^n.
 * Below -87 the result is 0, above 88 it is a huge finite number or infinity. */
INLINE vec exp_lanes(vec x) {
    const vec lowest = splat(-87.0f), highest = splat(88.3f);
    const ivec below = x < lowest;
    x = choose(below, lowest, x);
    x = choose(x > highest, highest, x);
    const vec magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    const vec n = (x * 1.44269504088896341f + magic) - magic;
    vec r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
    return choose(below, splat(0.0f), p * (vec)power);
}

#endif
