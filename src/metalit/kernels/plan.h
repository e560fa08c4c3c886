// Which pixels of one map meet which pixels of another in a convolution.
//
// Pixels that meet the same values of the filter form a group, so that nothing is multiplied with the zeros of padding,
// or with those between strides in the derivative by the images.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace metalit {

// Height or width of images, outputs and filter.
struct Side {
    int64_t images, outputs, filter, stride, padding, dilation;
};

// A group of one axis: its results, the first input of each, and the terms of all, whose inputs count from the first.
struct Line {
    struct Term {
        int64_t filter, input;
        bool operator==(const Term& other) const { return filter == other.filter && input == other.input; }
    };
    struct Result {
        int64_t at, first;
    };
    std::vector<Term> terms;
    std::vector<Result> results;
};

inline void add(std::vector<Line>& lines, int64_t result, std::vector<Line::Term> terms) {
    const int64_t first = terms.empty() ? 0 : terms[0].input;
    for (Line::Term& term : terms) term.input -= first;
    auto line = std::find_if(lines.begin(), lines.end(), [&](const Line& one) { return one.terms == terms; });
    if (line == lines.end()) line = lines.insert(line, {std::move(terms), {}});
    line->results.push_back({result, first});
}

inline std::vector<Line> outputs_of_images(const Side& s) {
    std::vector<Line> lines;
    for (int64_t out = 0; out < s.outputs; out++) {
        std::vector<Line::Term> terms;
        for (int64_t k = 0; k < s.filter; k++) {
            const int64_t in = out * s.stride - s.padding + k * s.dilation;
            if (in >= 0 && in < s.images) terms.push_back({k, in});
        }
        add(lines, out, std::move(terms));
    }
    return lines;
}

inline std::vector<Line> images_of_outputs(const Side& s) {
    std::vector<Line> lines;
    for (int64_t in = 0; in < s.images; in++) {
        std::vector<Line::Term> terms;
        for (int64_t k = s.filter - 1; k >= 0; k--) {  // memory is read faster in ascending order
            const int64_t from = in + s.padding - k * s.dilation;
            if (from >= 0 && from % s.stride == 0 && from / s.stride < s.outputs) terms.push_back({k, from / s.stride});
        }
        add(lines, in, std::move(terms));
    }
    return lines;
}

struct Plan {
    struct Tap {
        int64_t filter, input;
    };
    struct Pixel {
        int64_t result, first;
    };
    struct Group {
        std::vector<Tap> taps;
        std::vector<Pixel> pixels;
    };
    std::vector<Group> groups;
    int64_t inputs, results;  // pixels of a map

    // The sizes are those of the inputs and of the results, the width of the filter is the last.
    Plan(const std::vector<Line>& rows, const std::vector<Line>& columns, int64_t input_height, int64_t input_width,
         int64_t height, int64_t width, int64_t filter_width)
        : inputs(input_height * input_width), results(height * width) {
        for (const Line& row : rows)
            for (const Line& column : columns) {
                Group group;
                for (const Line::Term& i : row.terms)
                    for (const Line::Term& j : column.terms)
                        group.taps.push_back({i.filter * filter_width + j.filter, i.input * input_width + j.input});
                for (const Line::Result& i : row.results)
                    for (const Line::Result& j : column.results)
                        group.pixels.push_back({i.at * width + j.at, i.first * input_width + j.first});
                groups.push_back(std::move(group));
            }
    }
};

}  // namespace metalit
