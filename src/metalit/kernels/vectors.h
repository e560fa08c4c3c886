// Vector registers of this machine, by the vectors that GCC and Clang have in common.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>

namespace metalit {

// Bytes of a register, and the tile of pixels and vectors of channels whose sums fill the registers.
#if defined(__AVX512F__)
constexpr int BYTES = 64, PIXELS = 6, VECTORS = 4;
#elif defined(__AVX__)
constexpr int BYTES = 32, PIXELS = 6, VECTORS = 2;
#elif defined(__aarch64__)
constexpr int BYTES = 16, PIXELS = 6, VECTORS = 4;
#else
constexpr int BYTES = 16, PIXELS = 6, VECTORS = 2;
#endif

template <typename T>
struct Vector;
template <>
struct Vector<float> {
    typedef float type __attribute__((vector_size(BYTES)));
    typedef float four __attribute__((vector_size(4 * sizeof(float))));
};
template <>
struct Vector<double> {
    typedef double type __attribute__((vector_size(BYTES)));
    typedef double four __attribute__((vector_size(4 * sizeof(double))));
};

template <typename T>
constexpr int LANES = BYTES / int(sizeof(T));

// Vectors that n values fill, the last perhaps in part.
template <typename T>
constexpr int64_t vectors(int64_t n) {
    return (n + LANES<T> - 1) / LANES<T>;
}

template <typename T, typename V = typename Vector<T>::type>
inline V load(const T* from, int count = LANES<T>) {
    V v{};
    if (count == LANES<T>) std::memcpy(&v, from, sizeof v);
    else
        for (int i = 0; i < count; i++) v[i] = from[i];
    return v;
}

template <typename T, typename V = typename Vector<T>::type>
inline void store(T* to, const V& v, int count = LANES<T>) {
    if (count == LANES<T>) std::memcpy(to, &v, sizeof v);
    else
        for (int i = 0; i < count; i++) to[i] = v[i];
}

// Writes a square of four by four values transposed; the lines begin so many values apart.
template <typename T>
inline void transpose(const T* from, int64_t from_line, T* to, int64_t to_line) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
    typename Vector<T>::four v[4];
    for (int i = 0; i < 4; i++) std::memcpy(&v[i], from + i * from_line, sizeof v[i]);
    const auto a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5), b = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5),
               c = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7), d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
    v[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
    v[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
    v[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
    v[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
    for (int i = 0; i < 4; i++) std::memcpy(to + i * to_line, &v[i], sizeof v[i]);
    return;
#endif
#endif
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) to[i * to_line + j] = from[j * from_line + i];
}

// Memory that is kept for the next task. It begins where vectors do, for others lie in two lines of the cache, and a
// vector may be read at its last value.
template <typename T>
class Space {
    std::unique_ptr<T[]> values;
    int64_t size = -1;

  public:
    T* of(int64_t wanted) {
        if (wanted > size) {
            values.reset(new T[wanted + 2 * LANES<T>]);
            size = wanted;
        }
        const auto over = reinterpret_cast<uintptr_t>(values.get()) % BYTES;
        return values.get() + (over ? (BYTES - over) / sizeof(T) : 0);
    }
};

}  // namespace metalit
