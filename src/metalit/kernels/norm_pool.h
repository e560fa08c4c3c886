// Batch norm, affine, (leaky) ReLU and max-pooling of channels-last maps, with first and second derivative.
//
// Each pass goes over some images of a task: first one that takes sums over pixels per channel, then one for results.
#pragma once
#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "vectors.h"

namespace metalit {

struct Shape {
    int64_t images, height, width, channels, pool;
    double slope, eps;
    int64_t rows() const { return height / pool; }
    int64_t columns() const { return width / pool; }
    int64_t pixels() const { return images * height * width; }
    int64_t map() const { return height * width * channels; }
    int64_t pooled() const { return rows() * columns() * channels; }
    Shape of(int64_t some) const {
        Shape s = *this;
        s.images = some;
        return s;
    }
};

constexpr int BELOW = 4;          // flag in a code: the maximum was not above zero
constexpr int64_t TOGETHER = 32;  // pixels whose sum is taken in the type of the maps, and then in double

// Calls f(channel, values) for each vector of channels; the number of values is a constant but in a last vector in part.
template <typename T, typename F>
inline void for_vectors(int64_t channels, F f) {
    int64_t c = 0;
    for (; c + LANES<T> <= channels; c += LANES<T>) f(c, std::integral_constant<int, LANES<T>>());
    if (c < channels) f(c, int(channels - c));
}

// Calls f(pixel, pooled value) for all windows of P by P pixels, with where they begin.
template <int P, typename F>
void for_windows(const Shape& s, F f) {
    const int64_t C = s.channels, R = s.rows(), W = s.columns();
    for (int64_t row = 0; row < s.images * R; row++)
        for (int64_t column = 0; column < W; column++)
            f(((row / R * s.height + row % R * P) * s.width + column * P) * C, (row * W + column) * C);
}

// Calls f(pixel) for the pixels of an odd last row and column, which are in no window.
template <int P, typename F>
void for_rest(const Shape& s, F f) {
    if (P == 1) return;
    for (int64_t row = 0; row < s.images * s.height; row++)
        for (int64_t x = row % s.height < s.rows() * P ? s.columns() * P : 0; x < s.width; x++)
            f((row * s.width + x) * s.channels);
}

// K sums per channel over pixels: in the type of the maps over some of them, and then in double.
template <typename T, int K>
class Sums {
    const int64_t channels;
    std::vector<T> some;
    double* const total;
    int64_t pixels = 0;

  public:
    Sums(int64_t channels, double* total) : channels(channels), some(K * channels, T(0)), total(total) {}
    ~Sums() { flush(); }

    void add(int k, int64_t channel, const typename Vector<T>::type& values, int count) {
        T* to = some.data() + k * channels + channel;
        store<T>(to, load<T>(to, count) + values, count);
    }

    void next() {
        if (++pixels == TOGETHER) flush();
    }

    void flush() {
        for (size_t i = 0; i < some.size(); i++) total[i] += some[i];
        std::fill(some.begin(), some.end(), T(0));
        pixels = 0;
    }
};

// Mean and sum of squared deviations of pixels, per channel.
struct Moments {
    std::vector<double> mean, squares;
    double count = 0;

    explicit Moments(int64_t channels) : mean(channels, 0.0), squares(channels, 0.0) {}

    template <typename T>
    void join(double more, int64_t channel, int64_t size, const T* m, const T* s) {
        const double weight = more / (count + more);
        double *__restrict a = mean.data() + channel, *__restrict b = squares.data() + channel;
        for (int64_t i = 0; i < size; i++) {
            const double delta = double(m[i]) - a[i];
            a[i] += delta * weight;
            b[i] += double(s[i]) + delta * delta * count * weight;
        }
    }

    void join(const Moments& other) {
        join(other.count, 0, mean.size(), other.mean.data(), other.squares.data());
        count += other.count;
    }

    template <typename T>
    void add(const T* y, const Shape& s) {
        const int64_t total = s.pixels(), C = s.channels;
        for (int64_t start = 0, n; start < total; start += n, count += n) {
            n = std::min(TOGETHER, total - start);
            for_vectors<T>(C, [&](int64_t c, auto values) {
                const T* part = y + start * C + c;
                typename Vector<T>::type a{}, b{};
                for (int64_t i = 0; i < n; i++) a += load<T>(part + i * C, values);
                a /= T(n);
                for (int64_t i = 0; i < n; i++) {
                    const auto d = load<T>(part + i * C, values) - a;
                    b += d * d;
                }
                T m[LANES<T>], squared[LANES<T>];
                std::memcpy(m, &a, sizeof a);
                std::memcpy(squared, &b, sizeof b);
                join(double(n), c, values, m, squared);
            });
        }
    }
};

// A vector of channels of P by P pixels.
template <typename T, int P>
struct Window {
    typedef typename Vector<T>::type V;
    typedef typename Vector<T>::whole W;
    V pixels[P * P];

    Window(const T* p, const Shape& s, int count) {
        for (int i = 0; i < P * P; i++) pixels[i] = load<T>(p + (i / P * s.width + i % P) * s.channels, count);
    }

    // the pixel that was the maximum
    V taken(const W& code) const {
        V found = pixels[0];
        for (int i = 1; i < P * P; i++) found = (code & 3) == i ? pixels[i] : found;
        return found;
    }
};

// Calls f(i, vector) for the P by P pixels, which are stored.
template <typename T, int P, typename F>
inline void store_window(T* p, const Shape& s, int count, F f) {
    for (int i = 0; i < P * P; i++) store<T>(p + (i / P * s.width + i % P) * s.channels, f(i), count);
}

// A gradient of what follows ReLU as one of what comes before it.
template <typename T>
inline typename Vector<T>::type through_relu(const typename Vector<T>::type& g, const typename Vector<T>::whole& code,
                                             T slope) {
    return (code & BELOW) != 0 ? g * slope : g;
}

template <typename T, int P>
void forward(const T* y, const Shape& s, const T* scale, const T* beta, const T* mean, T* z, uint8_t* code) {
    typedef typename Vector<T>::type V;
    const T slope = T(s.slope);
    for_windows<P>(s, [&](int64_t from, int64_t to) {
        for_vectors<T>(s.channels, [&](int64_t c, auto count) {
            const V k = load<T>(scale + c, count), m = load<T>(mean + c, count), b = load<T>(beta + c, count);
            const Window<T, P> window(y + from + c, s, count);
            V best = (window.pixels[0] - m) * k + b;
            typename Vector<T>::whole at{};
            for (int j = 1; j < P * P; j++) {
                const V other = (window.pixels[j] - m) * k + b;
                at = other > best ? at * 0 + j : at;
                best = other > best ? other : best;
            }
            store_bytes<T>(code + to + c, best > T(0) ? at : at | BELOW, count);
            const auto kept = (best > T(0)) | (best != best);  // NaN stays
            store<T>(z + to + c, kept ? best : best * slope, count);
        });
    });
}

// Adds sum g and sum g (y - mean) of the gradient g of the pixels that were the maxima.
template <typename T, int P>
void sum_gradient(const T* g, const T* y, const Shape& s, const T* mean, const uint8_t* code, double* total) {
    typedef typename Vector<T>::type V;
    Sums<T, 2> sums(s.channels, total);
    for_windows<P>(s, [&](int64_t from, int64_t to) {
        for_vectors<T>(s.channels, [&](int64_t c, auto count) {
            const auto chosen = load_bytes<T>(code + to + c, count);
            const V value = through_relu<T>(load<T>(g + to + c, count), chosen, T(s.slope));
            const Window<T, P> window(y + from + c, s, count);
            sums.add(0, c, value, count);
            sums.add(1, c, value * (window.taken(chosen) - load<T>(mean + c, count)), count);
        });
        sums.next();
    });
}

// The gradient of y: d0 + d1 (y - mean), and d2 g more at the maxima.
template <typename T>
struct Gradient {
    std::vector<T> d0, d1, d2;

    Gradient(const Shape& s, const T* gamma, const T* rate, const double* total)
        : d0(s.channels), d1(s.channels), d2(s.channels) {
        const double M = double(s.pixels());
        for (int64_t c = 0; c < s.channels; c++) {
            const double k = double(gamma[c]) * rate[c];
            d0[c] = T(-k * total[c] / M);
            d1[c] = T(-k * (total[s.channels + c] * rate[c]) / M * rate[c]);
            d2[c] = T(k);
        }
    }
};

template <typename T, int P>
void backward(const T* g, const T* y, const Shape& s, const T* mean, const uint8_t* code, const Gradient<T>& by, T* gy) {
    typedef typename Vector<T>::type V;
    auto everywhere = [&](const V& pixel, int64_t c, auto count) {
        return load<T>(&by.d0[c], count) + load<T>(&by.d1[c], count) * (pixel - load<T>(mean + c, count));
    };
    for_windows<P>(s, [&](int64_t from, int64_t to) {
        for_vectors<T>(s.channels, [&](int64_t c, auto count) {
            const auto chosen = load_bytes<T>(code + to + c, count);
            const V value = through_relu<T>(load<T>(g + to + c, count), chosen, T(s.slope)) * load<T>(&by.d2[c], count);
            const Window<T, P> window(y + from + c, s, count);
            store_window<T, P>(gy + from + c, s, count, [&](int j) {
                return everywhere(window.pixels[j], c, count) + ((chosen & 3) == j ? value : V{});
            });
        });
    });
    for_rest<P>(s, [&](int64_t from) {
        for_vectors<T>(s.channels, [&](int64_t c, auto count) {
            store<T>(gy + from + c, everywhere(load<T>(y + from + c, count), c, count), count);
        });
    });
}

// Adds the sums of g and g (y - mean) as above, of v, of v (y - mean) and, at the maxima, of g v; v is a cotangent of gy.
template <typename T, int P>
void sum_double(const T* v, const T* g, const T* y, const Shape& s, const T* mean, const uint8_t* code, double* total) {
    typedef typename Vector<T>::type V;
    Sums<T, 5> sums(s.channels, total);
    for_windows<P>(s, [&](int64_t from, int64_t to) {
        for_vectors<T>(s.channels, [&](int64_t c, auto count) {
            const V m = load<T>(mean + c, count);
            const auto chosen = load_bytes<T>(code + to + c, count);
            const V value = through_relu<T>(load<T>(g + to + c, count), chosen, T(s.slope));
            const Window<T, P> of_y(y + from + c, s, count), of_v(v + from + c, s, count);
            V all{}, moment{};
            for (int j = 0; j < P * P; j++) {
                all += of_v.pixels[j];
                moment += of_v.pixels[j] * (of_y.pixels[j] - m);
            }
            const V found[] = {value, value * (of_y.taken(chosen) - m), all, moment, value * of_v.taken(chosen)};
            for (int k = 0; k < 5; k++) sums.add(k, c, found[k], count);
        });
        sums.next();
    });
    for_rest<P>(s, [&](int64_t from) {
        for_vectors<T>(s.channels, [&](int64_t c, auto count) {
            const V w = load<T>(v + from + c, count);
            sums.add(2, c, w, count);
            sums.add(3, c, w * (load<T>(y + from + c, count) - load<T>(mean + c, count)), count);
        });
        sums.next();
    });
}

// The derivatives of the gradient: of y d0 + d1 v + d2 (y - mean), and d3 g more at the maxima; of g, with the values at
// the maxima, e0 + d4 v + d3 (y - mean). a and b are cotangents of ggamma and gbeta.
template <typename T>
struct Second {
    std::vector<T> d0, d1, d2, d3, d4, e0;

    Second(const Shape& s, const T* gamma, const T* rate, const T* a, const T* b, const double* total, T* ogamma)
        : d0(s.channels), d1(s.channels), d2(s.channels), d3(s.channels), d4(s.channels), e0(s.channels) {
        const double M = double(s.pixels());
        const int64_t C = s.channels;
        for (int64_t c = 0; c < C; c++) {
            const double r = rate[c], k = double(gamma[c]) * r, S1 = total[c], S2 = total[C + c] * r,
                         V1 = total[2 * C + c], V2 = total[3 * C + c] * r;
            const double inner = total[4 * C + c] - S1 * V1 / M - S2 * V2 / M;
            const double U1 = -k * (S1 * V2 + V1 * S2) / M + a[c] * S1, U2 = -2 * k * S2 * V2 / M + a[c] * S2;
            ogamma[c] = T(r * inner);
            d0[c] = T(-r * U1 / M);
            d1[c] = T(-k * r * S2 / M);
            d2[c] = T(-r * r * (U2 + k * inner) / M);
            d3[c] = T(r * (a[c] - k * V2 / M));
            d4[c] = T(k);
            e0[c] = T(b[c] - k * V1 / M);
        }
    }
};

template <typename T, int P>
void double_backward(const T* v, const T* g, const T* y, const Shape& s, const T* mean, const uint8_t* code,
                     const Second<T>& by, T* og, T* oy) {
    typedef typename Vector<T>::type V;
    auto everywhere = [&](const V& of_v, const V& centred, int64_t c, auto count) {
        return load<T>(&by.d0[c], count) + load<T>(&by.d1[c], count) * of_v + load<T>(&by.d2[c], count) * centred;
    };
    for_windows<P>(s, [&](int64_t from, int64_t to) {
        for_vectors<T>(s.channels, [&](int64_t c, auto count) {
            const V m = load<T>(mean + c, count), d3 = load<T>(&by.d3[c], count), d4 = load<T>(&by.d4[c], count);
            const auto chosen = load_bytes<T>(code + to + c, count);
            const V value = through_relu<T>(load<T>(g + to + c, count), chosen, T(s.slope)) * d3;
            const Window<T, P> of_y(y + from + c, s, count), of_v(v + from + c, s, count);
            const V back = load<T>(&by.e0[c], count) + d4 * of_v.taken(chosen) + d3 * (of_y.taken(chosen) - m);
            store<T>(og + to + c, through_relu<T>(back, chosen, T(s.slope)), count);
            store_window<T, P>(oy + from + c, s, count, [&](int j) {
                return everywhere(of_v.pixels[j], of_y.pixels[j] - m, c, count) + ((chosen & 3) == j ? value : V{});
            });
        });
    });
    for_rest<P>(s, [&](int64_t from) {
        for_vectors<T>(s.channels, [&](int64_t c, auto count) {
            const V centred = load<T>(y + from + c, count) - load<T>(mean + c, count);
            store<T>(oy + from + c, everywhere(load<T>(v + from + c, count), centred, c, count), count);
        });
    });
}

}  // namespace metalit
