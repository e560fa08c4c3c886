// A block of convolution, batch norm, (leaky) ReLU and max-pooling, for a range of tasks.
#include "convolution.h"
#include "norm_pool.h"

namespace metalit {

// The tensors of an operation: where each begins, or null, and how many bytes lie between two tasks, 0 if they share it.
struct Tensors {
    char* const* begin;
    const int64_t* step;
    int64_t task;
    template <typename T>
    T* at(int i) const {
        return begin[i] ? reinterpret_cast<T*>(begin[i] + step[i] * task) : nullptr;
    }
};

// The order of the tensors of each operation.
namespace of_forward { enum { x, weight, gamma, beta, y, maps, code, mean, variance, rate }; }
namespace of_backward { enum { g, of_y, x, weight, gamma, y, mean, rate, code, gx, gweight, ggamma, gbeta }; }
// vx, vweight, a and b are cotangents of gx, gweight, ggamma and gbeta
namespace of_double {
enum { g, of_y, x, weight, gamma, y, mean, rate, code, vx, vweight, a, b, og, ox, oweight, ogamma, oy, of_of_y };
}

template <typename T, int P>
class Block {
    Convolution<T> convolution;
    const Shape s;
    const T slope = T(s.slope);
    const int64_t size = s.pixels() * s.channels;
    Space<T> of_gy, of_v;
    std::vector<T> unused = std::vector<T>(2 * s.channels);

    T* through_norm(const Tensors& t, T* sums_of_gh, T* sums_of_g) {
        using namespace of_backward;
        T* gradient = of_gy.of(size);
        backward<T, P>(t.at<T>(g), t.at<T>(y), s, t.at<T>(gamma), t.at<T>(mean), t.at<T>(rate), t.at<uint8_t>(code), slope,
                       gradient, sums_of_gh, sums_of_g);
        if (const T* more = t.at<T>(of_y))
            for (int64_t i = 0; i < size; i++) gradient[i] += more[i];
        return gradient;
    }

    void run_forward(const Tensors& t) {
        using namespace of_forward;
        convolution.apply(t.at<T>(x), t.at<T>(weight), t.at<T>(y), false);
        forward<T, P>(t.at<T>(y), s, t.at<T>(gamma), t.at<T>(beta), slope, s.eps, t.at<T>(maps), t.at<uint8_t>(code),
                      t.at<T>(mean), t.at<T>(variance), t.at<T>(rate));
    }

    void run_backward(const Tensors& t) {
        using namespace of_backward;
        const T* gradient = through_norm(t, t.at<T>(ggamma), t.at<T>(gbeta));
        if (t.at<T>(gx)) convolution.by_images(gradient, t.at<T>(weight), t.at<T>(gx));
        convolution.by_weights(t.at<T>(x), gradient, t.at<T>(gweight));
    }

    void run_double_backward(const Tensors& t) {
        using namespace of_double;
        T* v = of_v.of(size);
        convolution.apply(t.at<T>(x), t.at<T>(vweight), v, false);
        if (t.at<T>(vx)) convolution.apply(t.at<T>(vx), t.at<T>(weight), v, true);
        if (t.at<T>(ox) || t.at<T>(oweight)) {
            const T* gradient = through_norm(t, unused.data(), unused.data() + s.channels);
            if (t.at<T>(ox)) convolution.by_images(gradient, t.at<T>(vweight), t.at<T>(ox));
            if (t.at<T>(oweight)) convolution.by_weights(t.at<T>(vx), gradient, t.at<T>(oweight));
        }
        double_backward<T, P>(v, t.at<T>(a), t.at<T>(b), t.at<T>(g), t.at<T>(y), s, t.at<T>(gamma), t.at<T>(mean),
                              t.at<T>(rate), t.at<uint8_t>(code), slope, t.at<T>(og), t.at<T>(oy), t.at<T>(ogamma));
        if (t.at<T>(of_of_y)) std::copy(v, v + size, t.at<T>(of_of_y));
    }

  public:
    Block(const Shape& s, int64_t inputs, const Side& rows, const Side& columns, int64_t threads)
        : convolution(s.images, inputs, s.channels, rows, columns, threads), s(s) {}

    void run(int operation, const Tensors& t) {
        if (operation == 0) run_forward(t);
        else if (operation == 1) run_backward(t);
        else run_double_backward(t);
    }
};

// Sizes of a block as Python gives them.
struct Sizes {
    int64_t images, inputs, outputs, pool, threads;
    Side rows, columns;
    double slope, eps;
};

template <typename T, int P>
void run(int operation, Tensors t, int64_t stop, const Sizes& of) {
    const Shape s{of.images, of.rows.outputs, of.columns.outputs, of.outputs, of.pool, of.slope, of.eps};
    Block<T, P> block(s, of.inputs, of.rows, of.columns, of.threads);
    for (; t.task < stop; t.task++) block.run(operation, t);
}

}  // namespace metalit

// Runs one operation (0 forward, 1 backward, 2 double backward) for the tasks from start to before stop.
extern "C" void conv_block(int operation, int bytes, char* const* begin, const int64_t* step, const metalit::Sizes* sizes,
                           int64_t start, int64_t stop) {
    const metalit::Tensors t{begin, step, start};
    if (bytes == 4)
        (sizes->pool == 2 ? metalit::run<float, 2> : metalit::run<float, 1>)(operation, t, stop, *sizes);
    else
        (sizes->pool == 2 ? metalit::run<double, 2> : metalit::run<double, 1>)(operation, t, stop, *sizes);
}
