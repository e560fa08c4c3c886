// A block of convolution, batch norm, (leaky) ReLU and max-pooling, for all tasks.
#include <cmath>

#include "convolution.h"
#include "norm_pool.h"

namespace metalit {

// The tensors of an operation: where each begins, or null, and how many bytes lie between two tasks, 0 if they share it.
struct Tensors {
    char* const* begin;
    const int64_t* step;
    int64_t task;
    Tensors of(int64_t other) const { return {begin, step, other}; }
    template <typename T>
    T* at(int i) const {
        return begin[i] ? reinterpret_cast<T*>(begin[i] + step[i] * task) : nullptr;
    }
};

// The order of the tensors of each operation; the first nine of the derivatives are the same.
namespace of_forward { enum { x, weight, gamma, beta, y, maps, code, mean, variance, rate }; }
namespace of_backward { enum { g, of_y, x, weight, gamma, y, mean, rate, code, gx, gweight, ggamma, gbeta }; }
// vx, vweight, a and b are cotangents of gx, gweight, ggamma and gbeta
namespace of_double {
enum { g, of_y, x, weight, gamma, y, mean, rate, code, vx, vweight, a, b, og, ox, oweight, ogamma, oy, of_of_y };
}

constexpr int64_t PART = 1 << 18;  // bytes of the maps of some images, which stay in the second cache

// The images of a task are taken in parts, so that their maps are in the cache from one pass to the next. Sums are those
// of the parts, added in their order: they do not depend on the threads, which share the parts out, or if there is a
// single one, its images.
template <typename T, int P>
class Block {
    const Shape s;
    const int64_t inputs, weights, parts, over_parts, within_parts;
    const Convolution<T> convolution;
    Space<T> of_gy, of_v, of_weights, of_others;

    template <typename F>
    void for_parts(int64_t threads, F f) const {
        side_by_side(parts, threads, [&](int64_t begin, int64_t size) {
            for (int64_t i = begin; i < begin + size; i++) {
                const int64_t first = s.images * i / parts;
                f(i, Range{first, s.images * (i + 1) / parts - first});
            }
        });
    }

    template <int K, typename F>
    std::vector<double> summed(F f) const {
        const int64_t size = K * s.channels;
        std::vector<double> each(parts * size, 0.0);
        for_parts(over_parts, [&](int64_t i, Range of) { f(of, each.data() + i * size); });
        for (int64_t i = 1; i < parts; i++)
            for (int64_t k = 0; k < size; k++) each[k] += each[i * size + k];
        return each;
    }

    void run_forward(const Tensors& t) {
        using namespace of_forward;
        T *to = t.at<T>(y), *m = t.at<T>(mean), *r = t.at<T>(rate);
        const Weights<T> w = convolution.read(t.at<T>(weight), of_weights);
        std::vector<Moments> each(parts, Moments(s.channels));
        for_parts(over_parts, [&](int64_t i, Range of) {
            convolution.apply(of, t.at<T>(x), w, to, false, within_parts);
            each[i].add(to + of.first * s.map(), s.of(of.count));
        });
        Moments all(s.channels);
        for (const Moments& some : each) all.join(some);
        std::vector<T> scale(s.channels);
        for (int64_t c = 0; c < s.channels; c++) {
            const double v = all.squares[c] / all.count;
            m[c] = T(all.mean[c]);
            t.at<T>(variance)[c] = T(v);
            r[c] = T(1.0 / std::sqrt(v + s.eps));
            scale[c] = t.at<T>(gamma)[c] * r[c];
        }
        for_parts(over_parts, [&](int64_t, Range of) {
            const int64_t at = of.first * s.pooled();
            forward<T, P>(to + of.first * s.map(), s.of(of.count), scale.data(), t.at<T>(beta), m, t.at<T>(maps) + at,
                          t.at<uint8_t>(code) + at);
        });
    }

    // Pulls a gradient of the outputs back to images and weights.
    void pull_back(const Tensors& t, const Gradient<T>& by, const T* images, const T* weight, T* gx, T* gw) {
        using namespace of_backward;
        const bool whole = over_parts > 1;  // the threads share the weights out then, so they need all parts
        T* const gy = of_gy.of((whole ? s.images : (s.images + parts - 1) / parts) * s.map());
        const Weights<T> w = gx ? convolution.turned(weight, of_weights) : Weights<T>{};
        if (gw) std::fill(gw, gw + weights, T(0));
        for_parts(over_parts, [&](int64_t, Range of) {
            const int64_t at = of.first * s.map(), pooled = of.first * s.pooled();
            T* gradient = gy + (whole ? at : 0);
            backward<T, P>(t.at<T>(g) + pooled, t.at<T>(y) + at, s.of(of.count), t.at<T>(mean),
                           t.at<uint8_t>(code) + pooled, by, gradient);
            if (const T* more = t.at<T>(of_y))
                for (int64_t i = 0; i < of.count * s.map(); i++) gradient[i] += more[at + i];
            if (gx) convolution.by_images(of, gradient, w, gx, within_parts);
            if (gw && !whole) convolution.by_weights(of, images, gradient, gw, within_parts);
        });
        if (gw && whole)
            side_by_side(inputs, over_parts, [&](int64_t begin, int64_t size) {
                for_parts(1, [&](int64_t, Range of) {
                    convolution.by_weights(of, images, gy + of.first * s.map(), gw, Range{begin, size});
                });
            });
    }

    void run_backward(const Tensors& t) {
        using namespace of_backward;
        const std::vector<double> sums = summed<2>([&](Range of, double* total) {
            const int64_t at = of.first * s.map(), pooled = of.first * s.pooled();
            sum_gradient<T, P>(t.at<T>(g) + pooled, t.at<T>(y) + at, s.of(of.count), t.at<T>(mean),
                               t.at<uint8_t>(code) + pooled, total);
        });
        for (int64_t c = 0; c < s.channels; c++) {
            t.at<T>(gbeta)[c] = T(sums[c]);
            t.at<T>(ggamma)[c] = T(sums[s.channels + c] * t.at<T>(rate)[c]);
        }
        pull_back(t, Gradient<T>(s, t.at<T>(gamma), t.at<T>(rate), sums.data()), t.at<T>(x), t.at<T>(weight), t.at<T>(gx),
                  t.at<T>(gweight));
    }

    void run_double_backward(const Tensors& t) {
        using namespace of_double;
        T* const v = t.at<T>(of_of_y) ? t.at<T>(of_of_y) : of_v.of(s.images * s.map());
        const Weights<T> by_x = convolution.read(t.at<T>(vweight), of_weights),
                         by_vx = convolution.read(t.at<T>(weight), of_others);
        const std::vector<double> sums = summed<5>([&](Range of, double* total) {
            const int64_t at = of.first * s.map(), pooled = of.first * s.pooled();
            convolution.apply(of, t.at<T>(x), by_x, v, false, within_parts);
            if (t.at<T>(vx)) convolution.apply(of, t.at<T>(vx), by_vx, v, true, within_parts);
            sum_double<T, P>(v + at, t.at<T>(g) + pooled, t.at<T>(y) + at, s.of(of.count), t.at<T>(mean),
                             t.at<uint8_t>(code) + pooled, total);
        });
        if (t.at<T>(ox) || t.at<T>(oweight))
            pull_back(t, Gradient<T>(s, t.at<T>(gamma), t.at<T>(rate), sums.data()), t.at<T>(vx), t.at<T>(vweight),
                      t.at<T>(ox), t.at<T>(oweight));
        const Second<T> by(s, t.at<T>(gamma), t.at<T>(rate), t.at<T>(a), t.at<T>(b), sums.data(), t.at<T>(ogamma));
        for_parts(over_parts, [&](int64_t, Range of) {
            const int64_t at = of.first * s.map(), pooled = of.first * s.pooled();
            double_backward<T, P>(v + at, t.at<T>(g) + pooled, t.at<T>(y) + at, s.of(of.count), t.at<T>(mean),
                                  t.at<uint8_t>(code) + pooled, by, t.at<T>(og) + pooled, t.at<T>(oy) + at);
        });
    }

    static int64_t parts_of(const Shape& s) {
        const int64_t bytes = s.images * s.map() * sizeof(T);
        return std::min(s.images, (bytes + PART - 1) / PART);
    }

  public:
    Block(const Shape& s, int64_t inputs, const Side& rows, const Side& columns, int64_t threads)
        : s(s), inputs(inputs), weights(rows.filter * columns.filter * inputs * s.channels), parts(parts_of(s)),
          over_parts(parts > 1 ? threads : 1), within_parts(parts > 1 ? 1 : threads),
          convolution(inputs, s.channels, rows, columns) {}

    void run(int operation, const Tensors& t) {
        if (operation == 0) run_forward(t);
        else if (operation == 1) run_backward(t);
        else run_double_backward(t);
    }
};

// Sizes of a block as Python gives them.
struct Sizes {
    int64_t images, inputs, outputs, pool;
    Side rows, columns;
    double slope, eps;
};

template <typename T, int P>
void run(int operation, const Tensors& tensors, int64_t tasks, int64_t threads, const Sizes& of) {
    const Shape s{of.images, of.rows.outputs, of.columns.outputs, of.outputs, of.pool, of.slope, of.eps};
    side_by_side(tasks, threads, [&](int64_t begin, int64_t size) {
        Block<T, P> block(s, of.inputs, of.rows, of.columns, tasks == 1 ? threads : 1);
        for (int64_t i = begin; i < begin + size; i++) block.run(operation, tensors.of(i));
    });
}

}  // namespace metalit

// Runs one operation (0 forward, 1 backward, 2 double backward) for all tasks. Threads share the tasks out, or what there
// is to do for a single one.
extern "C" void conv_block(int operation, int bytes, char* const* begin, const int64_t* step, const metalit::Sizes* sizes,
                           int64_t tasks, int64_t threads) {
    const metalit::Tensors t{begin, step, 0};
    if (bytes == 4)
        (sizes->pool == 2 ? metalit::run<float, 2> : metalit::run<float, 1>)(operation, t, tasks, threads, *sizes);
    else
        (sizes->pool == 2 ? metalit::run<double, 2> : metalit::run<double, 1>)(operation, t, tasks, threads, *sizes);
}
