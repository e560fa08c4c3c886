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
constexpr int LANES = BYTES / int(sizeof(T));

template <typename T>
struct Vector {
    typedef T type __attribute__((vector_size(BYTES)));
    typedef T four __attribute__((vector_size(4 * sizeof(T))));
    // whole numbers, as many as there are lanes
    typedef uint8_t bytes __attribute__((vector_size(LANES<T>)));
    typedef uint16_t shorts __attribute__((vector_size(2 * LANES<T>)));
    typedef int32_t ints __attribute__((vector_size(4 * LANES<T>)));
    typedef decltype(type{} < type{}) whole;  // as wide as T
};

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

// Whole numbers from bytes, one for each lane, and back; step by step, for GCC converts lane by lane otherwise.
template <typename T, typename V = Vector<T>>
inline typename V::whole load_bytes(const uint8_t* from, int count = LANES<T>) {
    typename V::bytes v{};
    if (count == LANES<T>) std::memcpy(&v, from, sizeof v);
    else std::memcpy(&v, from, count);
    const auto ints = __builtin_convertvector(__builtin_convertvector(v, typename V::shorts), typename V::ints);
    return __builtin_convertvector(ints, typename V::whole);
}

template <typename T, typename V = Vector<T>>
inline void store_bytes(uint8_t* to, const typename V::whole& whole, int count = LANES<T>) {
    const auto ints = __builtin_convertvector(whole, typename V::ints);
    const auto v = __builtin_convertvector(__builtin_convertvector(ints, typename V::shorts), typename V::bytes);
    if (count == LANES<T>) std::memcpy(to, &v, sizeof v);
    else std::memcpy(to, &v, count);
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
