// Convolutions of channels-last maps with weights [rows][columns][inputs][outputs], and their two derivatives.
//
// A tile of PIXELS results and VECTORS vectors of their channels stays in registers while its terms are added: for each
// a value is broadcast and multiplied with vectors of the other factor. A sum does not depend on how many threads or
// images there are, since its terms are added in the order of the filter, or of the pixels.
#pragma once
#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "plan.h"
#include "vectors.h"

namespace metalit {

constexpr int64_t CHUNK = 64;          // pixels whose values stay in the first cache, and whose float sum is exact enough
constexpr int64_t FOR_A_THREAD = 1 << 20;  // multiplications that repay its start

// Some images, or inputs.
struct Range {
    int64_t first, count;
};

// Rows of weights in whole vectors.
template <typename T>
struct Weights {
    const T* values;
    int64_t line;
};

// The sums of pixels `x` over the taps of a group; the last vector has `count` values.
template <typename T, int P, int N>
void gather_tile(const T* const* x, T* const* out, const Plan::Group& group, int64_t inputs, Weights<T> w, int count,
                 bool added) {
    typename Vector<T>::type sum[P][N];
    for (int p = 0; p < P; p++)
        for (int n = 0; n < N; n++)
            sum[p][n] = load<T>(out[p] + n * LANES<T>, !added ? 0 : n < N - 1 ? LANES<T> : count);
    for (const Plan::Tap& tap : group.taps) {
        const T* row = w.values + tap.filter * inputs * w.line;
        const T* from[P];
        for (int p = 0; p < P; p++) from[p] = x[p] + tap.input * inputs;
        for (int64_t i = 0; i < inputs; i++, row += w.line) {
            typename Vector<T>::type weights[N];
            for (int n = 0; n < N; n++) weights[n] = load<T>(row + n * LANES<T>);
            for (int p = 0; p < P; p++)
                for (int n = 0; n < N; n++) sum[p][n] += weights[n] * from[p][i];
        }
    }
    for (int p = 0; p < P; p++)
        for (int n = 0; n < N; n++) store<T>(out[p] + n * LANES<T>, sum[p][n], n < N - 1 ? LANES<T> : count);
}

// A row of weights: the value of the filter and the input, and where the input is, from a pixel.
struct Row {
    int64_t at, input;
};

// The sums of P rows of the derivative by the weights over `pixels` of the images and of g.
template <typename T, int P, int N>
void outer_tile(const T* const* x, const T* const* g, const Row* rows, int64_t pixels, int64_t outputs, T* gw,
                int count) {
    typename Vector<T>::type sum[P][N];
    int64_t input[P];
    for (int p = 0; p < P; p++) {
        input[p] = rows[p].input;
        for (int n = 0; n < N; n++) sum[p][n] = typename Vector<T>::type{};
    }
    for (int64_t i = 0; i < pixels; i++) {
        typename Vector<T>::type values[N];
        for (int n = 0; n < N; n++) values[n] = load<T>(g[i] + n * LANES<T>);
        for (int p = 0; p < P; p++)
            for (int n = 0; n < N; n++) sum[p][n] += values[n] * x[i][input[p]];
    }
    for (int p = 0; p < P; p++)
        for (int n = 0; n < N; n++) {
            T* to = gw + rows[p].at * outputs + n * LANES<T>;
            const int size = n < N - 1 ? LANES<T> : count;
            store<T>(to, load<T>(to, size) + sum[p][n], size);
        }
}

// Tables of the tiles of each size.
template <typename T, typename = std::make_integer_sequence<int, PIXELS * VECTORS>>
struct Tiles;
template <typename T, int... I>
struct Tiles<T, std::integer_sequence<int, I...>> {
    static constexpr decltype(&gather_tile<T, 1, 1>) gather[] = {gather_tile<T, I / VECTORS + 1, I % VECTORS + 1>...};
    static constexpr decltype(&outer_tile<T, 1, 1>) outer[] = {outer_tile<T, I / VECTORS + 1, I % VECTORS + 1>...};
    static int of(int64_t pixels, int64_t n) { return int((pixels - 1) * VECTORS + n - 1); }
};

// Calls f(begin, size) for parts of nearly equal size, `most` or fewer.
template <typename F>
void evenly(int64_t total, int64_t most, F f) {
    const int64_t parts = (total + most - 1) / most;
    for (int64_t i = 0; i < parts; i++) f(total * i / parts, total * (i + 1) / parts - total * i / parts);
}

// Calls f(first channel, vectors, values of the last vector) for all channels.
template <typename T, typename F>
void for_channels(int64_t channels, F f) {
    evenly(vectors<T>(channels), VECTORS, [&](int64_t v, int64_t n) {
        f(v * LANES<T>, n, int(std::min<int64_t>(LANES<T>, channels - (v + n - 1) * LANES<T>)));
    });
}

// Calls f(begin, size) for some parts of nearly equal size, each in a thread.
template <typename F>
void side_by_side(int64_t total, int64_t parts, F f) {
    parts = std::min(total, parts);
    if (parts <= 1) return f(0, total);
#ifdef _OPENMP
    // by torch's threads, and as many, for those keep their cores busy for a while after each of its operations
#pragma omp parallel for schedule(static, 1)
    for (int64_t i = 0; i < parts; i++) f(total * i / parts, total * (i + 1) / parts - total * i / parts);
#else
    std::vector<std::thread> started;
    for (int64_t i = 1; i < parts; i++)
        started.emplace_back(f, total * i / parts, total * (i + 1) / parts - total * i / parts);
    f(0, total / parts);
    for (std::thread& one : started) one.join();
#endif
}

// Goes over the pixels of a group in all images.
struct Cursor {
    const Plan& plan;
    const std::vector<Plan::Pixel>& pixels;
    size_t pixel = 0;
    int64_t image = 0;

    template <typename F>
    void next(F f) {
        f(image * plan.inputs + pixels[pixel].first, image * plan.results + pixels[pixel].result);
        if (++pixel == pixels.size()) pixel = 0, image++;
    }
};

// Writes or adds the weighted sums of the inputs.
template <typename T>
void gather(const Plan& plan, int64_t images, const T* in, int64_t inputs, Weights<T> w, T* out, int64_t outputs,
            bool added) {
    for (const Plan::Group& group : plan.groups)
        for_channels<T>(outputs, [&](int64_t channel, int64_t n, int last) {
            Cursor cursor{plan, group.pixels};
            evenly(group.pixels.size() * images, PIXELS, [&](int64_t, int64_t size) {
                const T* x[PIXELS];
                T* y[PIXELS];
                for (int64_t i = 0; i < size; i++)
                    cursor.next([&](int64_t from, int64_t to) {
                        x[i] = in + from * inputs;
                        y[i] = out + to * outputs + channel;
                    });
                const auto tile = Tiles<T>::gather[Tiles<T>::of(size, n)];
                tile(x, y, group, inputs, {w.values + channel, w.line}, last, added);
            });
        });
}

// Adds to gw the products of g with the images, for some of the inputs; g is read a vector beyond its end.
template <typename T>
void outer(const Plan& plan, int64_t images, const T* in, int64_t inputs, const T* g, int64_t outputs, T* gw,
           Range some) {
    for (const Plan::Group& group : plan.groups) {
        std::vector<Row> rows;
        for (const Plan::Tap& tap : group.taps)
            for (int64_t i = some.first; i < some.first + some.count; i++)
                rows.push_back({tap.filter * inputs + i, tap.input * inputs + i});
        Cursor cursor{plan, group.pixels};
        evenly(group.pixels.size() * images, CHUNK, [&](int64_t, int64_t size) {
            const T *x[CHUNK], *y[CHUNK], *part[CHUNK];
            for (int64_t i = 0; i < size; i++)
                cursor.next([&](int64_t from, int64_t to) {
                    x[i] = in + from * inputs;
                    y[i] = g + to * outputs;
                });
            for_channels<T>(outputs, [&](int64_t channel, int64_t n, int last) {
                for (int64_t i = 0; i < size; i++) part[i] = y[i] + channel;
                evenly(rows.size(), PIXELS, [&](int64_t r, int64_t p) {
                    const auto tile = Tiles<T>::outer[Tiles<T>::of(p, n)];
                    tile(x, part, rows.data() + r, size, outputs, gw + channel, last);
                });
            });
        });
    }
}

// [filter][inputs][outputs] as [filter][outputs][inputs in whole vectors]
template <typename T>
Weights<T> transposed(const T* w, int64_t filter, int64_t inputs, int64_t outputs, Space<T>& space) {
    const int64_t line = vectors<T>(inputs) * LANES<T>, whole_i = inputs / 4 * 4, whole_j = outputs / 4 * 4;
    T* to = space.of(filter * outputs * line);
    const Weights<T> result{to, line};
    if (line != inputs) std::fill(to, to + filter * outputs * line, T(0));
    for (int64_t f = 0; f < filter; f++, w += inputs * outputs, to += outputs * line) {
        for (int64_t j = 0; j < whole_j; j += 4)
            for (int64_t i = 0; i < whole_i; i += 4) transpose(w + i * outputs + j, outputs, to + j * line + i, line);
        for (int64_t j = 0; j < outputs; j++)
            for (int64_t i = j < whole_j ? whole_i : 0; i < inputs; i++) to[j * line + i] = w[i * outputs + j];
    }
    return result;
}

// [rows][outputs] as [rows][outputs in whole vectors]
template <typename T>
Weights<T> widened(const T* w, int64_t rows, int64_t outputs, Space<T>& space) {
    const int64_t line = vectors<T>(outputs) * LANES<T>;
    if (line == outputs) return {w, line};
    T* to = space.of(rows * line);
    std::fill(to, to + rows * line, T(0));
    for (int64_t r = 0; r < rows; r++) std::copy(w + r * outputs, w + (r + 1) * outputs, to + r * line);
    return {to, line};
}

// The convolution of some images of one task.
template <typename T>
class Convolution {
    const int64_t inputs, outputs, filter;
    const Plan forward, backward;

    int64_t threads_for(const Plan& plan, Range of, int64_t most) const {
        return std::min(most, of.count * plan.results * filter * inputs * outputs / FOR_A_THREAD);
    }

    void gathered(const Plan& plan, Range of, const T* in, int64_t from, Weights<T> w, T* out, int64_t to, bool added,
                  int64_t threads) const {
        side_by_side(of.count, threads_for(plan, of, threads), [&](int64_t i, int64_t n) {
            gather(plan, n, in + i * plan.inputs * from, from, w, out + i * plan.results * to, to, added);
        });
    }

  public:
    Convolution(int64_t inputs, int64_t outputs, const Side& rows, const Side& columns)
        : inputs(inputs), outputs(outputs), filter(rows.filter * columns.filter),
          forward(outputs_of_images(rows), outputs_of_images(columns), rows.images, columns.images, rows.outputs,
                  columns.outputs, columns.filter),
          backward(images_of_outputs(rows), images_of_outputs(columns), rows.outputs, columns.outputs, rows.images,
                   columns.images, columns.filter) {}

    // The weights as `apply` reads them.
    Weights<T> read(const T* w, Space<T>& space) const { return widened(w, filter * inputs, outputs, space); }

    // The weights as `by_images` reads them.
    Weights<T> turned(const T* w, Space<T>& space) const { return transposed(w, filter, inputs, outputs, space); }

    void apply(Range of, const T* x, Weights<T> w, T* y, bool added, int64_t threads) const {
        x += of.first * forward.inputs * inputs;
        gathered(forward, of, x, inputs, w, y + of.first * forward.results * outputs, outputs, added, threads);
    }

    // gy begins with the first of the images
    void by_images(Range of, const T* gy, Weights<T> w, T* gx, int64_t threads) const {
        gathered(backward, of, gy, outputs, w, gx + of.first * backward.results * inputs, inputs, false, threads);
    }

    // Adds to the derivative by the weights of some inputs; gy likewise, and it is read a vector beyond its end.
    void by_weights(Range of, const T* x, const T* gy, T* gw, Range some) const {
        outer(forward, of.count, x + of.first * forward.inputs * inputs, inputs, gy, outputs, gw, some);
    }

    void by_weights(Range of, const T* x, const T* gy, T* gw, int64_t threads) const {
        side_by_side(inputs, threads_for(forward, of, threads), [&](int64_t begin, int64_t size) {
            by_weights(of, x, gy, gw, Range{begin, size});
        });
    }
};

}  // namespace metalit
