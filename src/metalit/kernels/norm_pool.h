// Batch norm, affine, (leaky) ReLU and max-pooling of channels-last maps, with first and second derivative.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace metalit {

struct Shape {
    int64_t images, height, width, channels, pool;
    double slope, eps;
    int64_t rows() const { return height / pool; }
    int64_t columns() const { return width / pool; }
    int64_t pixels() const { return images * height * width; }
};

constexpr int BELOW = 4;  // flag in a code: the maximum was not above zero

template <typename T>
void statistics(const T* y, const Shape& s, double eps, T* mean, T* variance, T* rate) {
    const int64_t C = s.channels, total = s.pixels(), chunk = 32;
    std::vector<double> m(C, 0.0), m2(C, 0.0);
    std::vector<T> sum(C), square(C);
    for (int64_t start = 0; start < total; start += chunk) {
        const int64_t n = std::min(chunk, total - start);
        const T* part = y + start * C;
        std::fill(sum.begin(), sum.end(), T(0));
        std::fill(square.begin(), square.end(), T(0));
        T* __restrict a = sum.data();
        T* __restrict b = square.data();
        for (int64_t i = 0; i < n; i++)
#pragma omp simd
            for (int64_t c = 0; c < C; c++) a[c] += part[i * C + c];
        for (int64_t c = 0; c < C; c++) a[c] /= T(n);
        for (int64_t i = 0; i < n; i++)
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                const T d = part[i * C + c] - a[c];
                b[c] += d * d;
            }
        const double weight = double(n) / double(start + n);
        for (int64_t c = 0; c < C; c++) {
            const double delta = double(a[c]) - m[c];
            m[c] += delta * weight;
            m2[c] += double(b[c]) + delta * delta * double(start) * weight;
        }
    }
    for (int64_t c = 0; c < C; c++) {
        const double v = m2[c] / double(total);
        mean[c] = T(m[c]);
        variance[c] = T(v);
        rate[c] = T(1.0 / std::sqrt(v + eps));
    }
}

template <typename T, int P>
void forward(const T* y, const Shape& s, const T* gamma, const T* beta, T slope, double eps, T* z, uint8_t* code,
             T* mean, T* variance, T* rate) {
    statistics(y, s, eps, mean, variance, rate);
    const int64_t C = s.channels, line = s.width * C;
    std::vector<T> scale(C);
    for (int64_t c = 0; c < C; c++) scale[c] = gamma[c] * rate[c];
    const T* __restrict k = scale.data();
    for (int64_t row = 0; row < s.images * s.rows(); row++) {
        const T* base = y + (row / s.rows() * s.height + row % s.rows() * P) * line;
        for (int64_t column = 0; column < s.columns(); column++) {
            const T* __restrict p = base + column * P * C;
            T* __restrict out = z + (row * s.columns() + column) * C;
            uint8_t* __restrict chosen = code + (row * s.columns() + column) * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                T best = (p[c] - mean[c]) * k[c] + beta[c];
                int at = 0;
                if (P == 2) {
                    const T second = (p[C + c] - mean[c]) * k[c] + beta[c];
                    const T third = (p[line + c] - mean[c]) * k[c] + beta[c];
                    const T fourth = (p[line + C + c] - mean[c]) * k[c] + beta[c];
                    at = second > best ? 1 : at;
                    best = second > best ? second : best;
                    at = third > best ? 2 : at;
                    best = third > best ? third : best;
                    at = fourth > best ? 3 : at;
                    best = fourth > best ? fourth : best;
                }
                out[c] = best > T(0) || best != best ? best : best * slope;
                chosen[c] = uint8_t(best > T(0) ? at : at | BELOW);
            }
        }
    }
}

// the pixel that was the maximum of a window
template <typename T, int P>
inline T taken(const T* p, int64_t line, int64_t C, int64_t c, int at) {
    if (P == 1) return p[c];
    const T first = p[c], second = p[C + c], third = p[line + c], fourth = p[line + C + c];
    const T upper = at & 1 ? second : first, lower = at & 1 ? fourth : third;
    return at & 2 ? lower : upper;
}

template <typename T, int P>
void backward(const T* g, const T* y, const Shape& s, const T* gamma, const T* mean, const T* rate,
              const uint8_t* code, T slope, T* gy, T* ggamma, T* gbeta) {
    const int64_t C = s.channels, line = s.width * C, R = s.rows(), W = s.columns();
    std::vector<double> s1(C, 0.0), s2(C, 0.0);
    std::vector<T> a1(C), a2(C), c0(C), c1(C), c2(C);
    for (int64_t row = 0; row < s.images * R; row++) {
        const T* base = y + (row / R * s.height + row % R * P) * line;
        T* __restrict b1 = a1.data();
        T* __restrict b2 = a2.data();
        for (int64_t c = 0; c < C; c++) b1[c] = b2[c] = T(0);
        for (int64_t column = 0; column < W; column++) {
            const T* __restrict p = base + column * P * C;
            const T* __restrict q = g + (row * W + column) * C;
            const uint8_t* __restrict chosen = code + (row * W + column) * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                const int at = chosen[c];
                const T value = at & BELOW ? q[c] * slope : q[c];
                b1[c] += value;
                b2[c] += value * (taken<T, P>(p, line, C, c, at) - mean[c]);
            }
        }
        for (int64_t c = 0; c < C; c++) s1[c] += b1[c], s2[c] += b2[c];
    }
    const double M = double(s.pixels());
    for (int64_t c = 0; c < C; c++) {
        s2[c] *= rate[c];
        gbeta[c] = T(s1[c]);
        ggamma[c] = T(s2[c]);
        const double k = double(gamma[c]) * rate[c];
        c0[c] = T(-k * s1[c] / M);
        c1[c] = T(-k * s2[c] / M * rate[c]);
        c2[c] = T(k);
    }
    const T *__restrict d0 = c0.data(), *__restrict d1 = c1.data(), *__restrict d2 = c2.data();
    auto rest = [&](const T* __restrict p, T* __restrict o) {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) o[c] = d0[c] + d1[c] * (p[c] - mean[c]);
    };
    for (int64_t row = 0; row < s.images * R; row++) {
        const int64_t offset = (row / R * s.height + row % R * P) * line;
        for (int64_t column = 0; column < W; column++) {
            const T* __restrict p = y + offset + column * P * C;
            T* __restrict o = gy + offset + column * P * C;
            const T* __restrict q = g + (row * W + column) * C;
            const uint8_t* __restrict chosen = code + (row * W + column) * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                const int at = chosen[c] & 3;
                const T value = (chosen[c] & BELOW ? q[c] * slope : q[c]) * d2[c];
                o[c] = d0[c] + d1[c] * (p[c] - mean[c]) + (at == 0 ? value : T(0));
                if (P == 2) {
                    o[C + c] = d0[c] + d1[c] * (p[C + c] - mean[c]) + (at == 1 ? value : T(0));
                    o[line + c] = d0[c] + d1[c] * (p[line + c] - mean[c]) + (at == 2 ? value : T(0));
                    o[line + C + c] = d0[c] + d1[c] * (p[line + C + c] - mean[c]) + (at == 3 ? value : T(0));
                }
            }
        }
        if (P == 2 && s.width % 2)
            for (int64_t i = 0; i < 2; i++) rest(y + offset + i * line + (s.width - 1) * C, gy + offset + i * line + (s.width - 1) * C);
    }
    if (P == 2 && s.height % 2)
        for (int64_t i = 0; i < s.images; i++)
            for (int64_t x = 0; x < s.width; x++) {
                const int64_t offset = (i * s.height + s.height - 1) * line + x * C;
                rest(y + offset, gy + offset);
            }
}

// v, a, b: cotangents of gy, ggamma and gbeta
template <typename T, int P>
void double_backward(const T* v, const T* a, const T* b, const T* g, const T* y, const Shape& s, const T* gamma,
                     const T* mean, const T* rate, const uint8_t* code, T slope, T* og, T* oy, T* ogamma) {
    const int64_t C = s.channels, line = s.width * C, R = s.rows(), W = s.columns();
    std::vector<double> s1(C, 0.0), s2(C, 0.0), v1(C, 0.0), v2(C, 0.0), gv(C, 0.0);
    std::vector<T> t(5 * C), d(8 * C);
    T *__restrict t1 = t.data(), *__restrict t2 = t1 + C, *__restrict t3 = t2 + C, *__restrict t4 = t3 + C,
      *__restrict t5 = t4 + C;
    auto clear = [&] { std::fill(t.begin(), t.end(), T(0)); };
    auto flush = [&] {
        for (int64_t c = 0; c < C; c++)
            s1[c] += t1[c], s2[c] += t2[c], v1[c] += t3[c], v2[c] += t4[c], gv[c] += t5[c];
    };
    auto sum = [&](const T* __restrict p, const T* __restrict w) {
        for (int64_t c = 0; c < C; c++) {
            t3[c] += w[c];
            t4[c] += w[c] * (p[c] - mean[c]);
        }
    };
    for (int64_t row = 0; row < s.images * R; row++) {
        clear();
        const int64_t offset = (row / R * s.height + row % R * P) * line;
        for (int64_t column = 0; column < W; column++) {
            const T* __restrict p = y + offset + column * P * C;
            const T* __restrict w = v + offset + column * P * C;
            const T* __restrict q = g + (row * W + column) * C;
            const uint8_t* __restrict chosen = code + (row * W + column) * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                const int at = chosen[c];
                const T value = at & BELOW ? q[c] * slope : q[c];
                t1[c] += value;
                t2[c] += value * (taken<T, P>(p, line, C, c, at) - mean[c]);
                t5[c] += value * taken<T, P>(w, line, C, c, at);
                T all = w[c], moment = w[c] * (p[c] - mean[c]);
                if (P == 2) {
                    all += w[C + c] + w[line + c] + w[line + C + c];
                    moment += w[C + c] * (p[C + c] - mean[c]) + w[line + c] * (p[line + c] - mean[c]) +
                              w[line + C + c] * (p[line + C + c] - mean[c]);
                }
                t3[c] += all;
                t4[c] += moment;
            }
        }
        if (P == 2 && s.width % 2)
            for (int64_t i = 0; i < 2; i++) {
                const int64_t o = offset + i * line + (s.width - 1) * C;
                sum(y + o, v + o);
            }
        flush();
    }
    if (P == 2 && s.height % 2)
        for (int64_t i = 0; i < s.images; i++) {
            clear();
            for (int64_t x = 0; x < s.width; x++) {
                const int64_t o = (i * s.height + s.height - 1) * line + x * C;
                sum(y + o, v + o);
            }
            flush();
        }
    const double M = double(s.pixels());
    T *__restrict d0 = d.data(), *__restrict d1 = d0 + C, *__restrict d2 = d1 + C, *__restrict d3 = d2 + C,
      *__restrict e0 = d3 + C, *__restrict e1 = e0 + C, *__restrict e2 = e1 + C;
    for (int64_t c = 0; c < C; c++) {
        const double r = rate[c], k = double(gamma[c]) * r, S1 = s1[c], S2 = s2[c] * r, V1 = v1[c], V2 = v2[c] * r;
        const double inner = gv[c] - S1 * V1 / M - S2 * V2 / M;
        const double U1 = -k * (S1 * V2 + V1 * S2) / M + a[c] * S1, U2 = -2 * k * S2 * V2 / M + a[c] * S2;
        ogamma[c] = T(r * inner);
        d0[c] = T(-r * U1 / M);
        d1[c] = T(-k * r * S2 / M);
        d2[c] = T(-r * r * (U2 + k * inner) / M);
        d3[c] = T(r * (a[c] - k * V2 / M));
        e0[c] = T(b[c] - k * V1 / M);
        e1[c] = T(k);
        e2[c] = T(r * (a[c] - k * V2 / M));
    }
    auto rest = [&](const T* __restrict p, const T* __restrict w, T* __restrict o) {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) o[c] = d0[c] + d1[c] * w[c] + d2[c] * (p[c] - mean[c]);
    };
    for (int64_t row = 0; row < s.images * R; row++) {
        const int64_t offset = (row / R * s.height + row % R * P) * line;
        for (int64_t column = 0; column < W; column++) {
            const T* __restrict p = y + offset + column * P * C;
            const T* __restrict w = v + offset + column * P * C;
            T* __restrict o = oy + offset + column * P * C;
            const T* __restrict q = g + (row * W + column) * C;
            T* __restrict h = og + (row * W + column) * C;
            const uint8_t* __restrict chosen = code + (row * W + column) * C;
#pragma omp simd
            for (int64_t c = 0; c < C; c++) {
                const int at = chosen[c] & 3;
                const bool below = chosen[c] & BELOW;
                const T value = (below ? q[c] * slope : q[c]) * d3[c];
                const T back = e0[c] + e1[c] * taken<T, P>(w, line, C, c, at) +
                               e2[c] * (taken<T, P>(p, line, C, c, at) - mean[c]);
                h[c] = below ? back * slope : back;
                o[c] = d0[c] + d1[c] * w[c] + d2[c] * (p[c] - mean[c]) + (at == 0 ? value : T(0));
                if (P == 2) {
                    o[C + c] = d0[c] + d1[c] * w[C + c] + d2[c] * (p[C + c] - mean[c]) + (at == 1 ? value : T(0));
                    o[line + c] = d0[c] + d1[c] * w[line + c] + d2[c] * (p[line + c] - mean[c]) + (at == 2 ? value : T(0));
                    o[line + C + c] =
                        d0[c] + d1[c] * w[line + C + c] + d2[c] * (p[line + C + c] - mean[c]) + (at == 3 ? value : T(0));
                }
            }
        }
        if (P == 2 && s.width % 2)
            for (int64_t i = 0; i < 2; i++) {
                const int64_t o = offset + i * line + (s.width - 1) * C;
                rest(y + o, v + o, oy + o);
            }
    }
    if (P == 2 && s.height % 2)
        for (int64_t i = 0; i < s.images; i++)
            for (int64_t x = 0; x < s.width; x++) {
                const int64_t o = (i * s.height + s.height - 1) * line + x * C;
                rest(y + o, v + o, oy + o);
            }
}

}  // namespace metalit
