// The gradient of a convolution's weight as a matrix product whose sums run over pixels:
// dW[(row, column, channel)][filter] = sum of input[pixel][(row, column, channel)] *
// grad[pixel][filter].
//
// Pixels are taken in blocks. Of a block, the gradients are copied to panels of filters, pixel
// after pixel, and the input to lines, padded with zeros, of a chunk of channels each: a chunk's
// part of a window's row lies together then, whatever the padding, and neither crowds into a few
// places of the caches as pixels of many channels would. A tile of dW is summed in registers over a
// strip of the block, which is as much as L1 holds, and then added to the sums in memory.
#pragma once

#include "../transpose.h"
#include "conv2d_weight_grad_plan.inc.h"

namespace zoo {
namespace {

template <typename T>
struct WeightGrad {
  using V = Vec<T>;
  static constexpr int64_t kLanes = V::kLanes;
  static constexpr WeightGradTiles<T> kTiles = WeightGradTiles<T>::make();

  const Conv2dParams& p;
  const WeightGradPlan& plan;
  const T* input;
  const T* grad;

  // Some rows of some images, all of them where there are several, and their copies.
  struct Block {
    int64_t image, images;
    Range ys;
    int64_t rows, in_rows;  // of an image
    T* input;               // [group, channels of a chunk][image, row, column][channel of it]
    T* grad;                // [group, filters of a panel][image, row, column][filter of it]
    int64_t* lines;         // of each row, the first pixel of the input

    int64_t all_rows() const { return images * rows; }
    int64_t all_in_rows() const { return images * in_rows; }
  };

  Block block(int64_t i, char* memory) const {
    const Window& w = p.window;
    const Range images = part(p.batch, plan.image_blocks, i / plan.row_blocks);
    const Range ys = part(p.out_h, plan.row_blocks, i % plan.row_blocks);
    Block b{};
    b.image = images.begin;
    b.images = images.end - images.begin;
    b.ys = ys;
    b.rows = ys.end - ys.begin;
    b.in_rows = (b.rows - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1;
    b.input = reinterpret_cast<T*>(memory);
    b.grad = reinterpret_cast<T*>(memory + plan.input_bytes);
    b.lines = reinterpret_cast<int64_t*>(memory + plan.input_bytes + plan.grad_bytes);
    for (int64_t r = 0; r < b.all_rows(); ++r) {
      b.lines[r] = (r / b.rows * b.in_rows + r % b.rows * w.stride_h) * plan.in_columns;
    }
    return b;
  }

  // n channels to each of `count` chunks that are `apart` elements apart, pixel by pixel, so that
  // the map is read straight on. What a store writes beyond its pixel is written again for the
  // next; the last ones write no more than they have to.
  static void scatter(const T* from, int64_t step, int64_t pixels, int64_t count, int64_t n, T* to,
                      int64_t apart) {
    const int64_t loose = n % kLanes == 0 ? pixels : pixels - ceil_div(kLanes, n);
    for (int64_t x = 0; x < pixels; ++x, from += step, to += n) {
      const T* one = from;
      T* place = to;
      for (int64_t i = 0; i < count; ++i, one += n, place += apart) {
        int64_t j = 0;
        for (; j + kLanes <= n; j += kLanes) V::load(one + j).store(place + j);
        if (j == n) continue;
        const V rest = V::load(one + j, n - j);
        if (x < loose) {
          rest.store(place + j);
        } else {
          rest.store(place + j, n - j);
        }
      }
    }
  }

  static void zero(T* to, int64_t n) {
    if (n > 0) __builtin_memset(to, 0, static_cast<std::size_t>(n) * sizeof(T));
  }

  [[gnu::noinline]] void copy_input(const Block& b, int64_t line) const {
    const Window& w = p.window;
    const int64_t image = b.image + line / b.in_rows, left = lesser(w.pad_w, plan.in_columns);
    const int64_t h = b.ys.begin * w.stride_h - w.pad_h + line % b.in_rows;
    const bool outside = h < 0 || h >= p.in_h;
    const int64_t inside = outside ? 0 : clamp(p.in_w, 0, plan.in_columns - left);
    const T* const row = outside ? nullptr : input + image * p.input.n + h * p.input.h;
    const int64_t area = plan.area;
    if (!outside && p.groups * plan.chunks == 1 && p.input.w == plan.group_in) {
      T* const to = b.input + line * plan.in_columns * plan.group_in;
      zero(to, left * plan.group_in);
      __builtin_memcpy(to + left * plan.group_in, row,
                       static_cast<std::size_t>(inside * plan.group_in) * sizeof(T));
      zero(to + (left + inside) * plan.group_in, (plan.in_columns - left - inside) * plan.group_in);
      return;
    }
    // Chunks of one channel more come first. Where all are alike, so are those of all groups.
    const int64_t size = plan.group_in / plan.chunks, longer = plan.group_in % plan.chunks;
    const int64_t together = longer == 0 ? p.groups : 1;
    for (int64_t group = 0; group < p.groups; group += together) {
      int64_t channel = group * plan.group_in;
      const Run runs[] = {{longer, size + 1}, {(plan.chunks - longer) * together, size}};
      for (const auto& [count, n] : runs) {
        T* const to = b.input + channel * area + line * plan.in_columns * n;
        for (int64_t i = 0; i < count; ++i) {
          zero(to + i * area * n, left * n);
          zero(to + i * area * n + (left + inside) * n, (plan.in_columns - left - inside) * n);
        }
        if (!outside) {
          scatter(row + channel, p.input.w, inside, count, n, to + left * n, area * n);
        }
        channel += count * n;
      }
    }
  }
  struct Run {
    int64_t count, size;
  };

  [[gnu::noinline]] void copy_grad(const Block& b, int64_t row) const {
    const int64_t pixels = b.all_rows() * p.out_w, first = row * p.out_w;
    const T* from =
        grad + (b.image + row / b.rows) * p.output.n + (b.ys.begin + row % b.rows) * p.output.h;
    const int64_t full = plan.group_out / plan.panel;  // panels
    for (int64_t x = 0; x < p.out_w; ++x, from += p.output.w) {
      const T* one = from;
      for (int64_t group = 0; group < p.groups; ++group) {
        T* to = b.grad + group * plan.width * pixels + (first + x) * plan.panel;
        for (int64_t i = 0; i < full; ++i, one += plan.panel, to += pixels * plan.panel) {
          for (int64_t j = 0; j < plan.panel; j += kLanes) V::load(one + j).store(to + j);
        }
        const int64_t n = plan.group_out - full * plan.panel;
        if (n == 0) continue;
        to = b.grad + (group * plan.width + full * plan.panel) * pixels +
             (first + x) * round_up(n, kLanes);
        for (int64_t j = 0; j < n; j += kLanes) {
          V::load(one + j, lesser(n - j, kLanes)).store(to + j);
        }
        one += n;
      }
    }
  }

  // The input channels of a chunk, the filters of a panel; both are numbered through all groups.
  Range chunk(int64_t i) const {
    const int64_t group = i / plan.chunks;
    const Range r = part(plan.group_in, plan.chunks, i % plan.chunks);
    return {group * plan.group_in + r.begin, group * plan.group_in + r.end};
  }
  Range panel(int64_t i) const {
    const int64_t first = i % plan.panels * plan.panel, group = i / plan.panels * plan.group_out;
    return {group + first, group + lesser(first + plan.panel, plan.group_out)};
  }
  // In whole vectors: its filters, and those before it.
  int64_t panel_width(int64_t i) const {
    return lesser(plan.panel, plan.width - i % plan.panels * plan.panel);
  }
  int64_t panel_place(int64_t i) const {
    return i / plan.panels * plan.width + i % plan.panels * plan.panel;
  }
  // Sums are [group, filters of a panel][channels of a chunk][row, column, channel of it][filter].
  int64_t sums_place(int64_t panel, int64_t chunk) const {
    const int64_t first = part(plan.group_in, plan.chunks, chunk % plan.chunks).begin;
    return panel_place(panel) * plan.depth +
           first * p.window.kernel_h * p.window.kernel_w * panel_width(panel);
  }

  // One strip's products of a panel and a chunk; `first` is the strip's first pixel.
  void tiles(const Block& b, WeightGradStrip strip, const T* g, int64_t i, int64_t width,
             int64_t first, T* to, bool add) const {
    const Window& w = p.window;
    const Range channels = chunk(i);
    const int64_t n = channels.end - channels.begin, vecs = width / kLanes;
    strip.x_pixel = n;
    strip.x_step = w.stride_w * n;
    const T* const x = b.input + channels.begin * plan.area + (plan.flat ? first * n : 0);
    const int64_t row = plan.row_taps * n, parts = ceil_div(row, weight_grad_rows<T>(vecs));
    for (int64_t r = 0; r < w.kernel_h; ++r) {
      for (int64_t s = 0; s < w.kernel_w; s += plan.row_taps) {
        const T* const tap = x + (r * w.dilation_h * plan.in_columns + s * w.dilation_w) * n;
        for (int64_t k = 0; k < parts; ++k) {
          const Range some = part(row, parts, k);
          kTiles.run(some.end - some.begin, vecs)(strip, tap + some.begin, g,
                                                  to + some.begin * width, add);
        }
        to += row * width;
      }
    }
  }

  // The products of a block for one panel and some chunks, numbered through all groups.
  void multiply(const Block& b, int64_t panel_index, Range chunks, T* sums, bool add) const {
    const int64_t width = panel_width(panel_index), pixels = b.all_rows() * p.out_w;
    const int64_t count = plan.flat ? pixels : b.all_rows();
    const T* g = b.grad + panel_place(panel_index) * pixels;
    WeightGradStrip strip{};
    strip.g_step = width;
    if (plan.in_place) {
      g = grad + b.image * p.output.n + b.ys.begin * p.output.h + panel(panel_index).begin;
      strip.g_step = p.output.w;
    }
    const int64_t strips = ceil_div(count, plan.strip);
    for (int64_t i = 0; i < strips; ++i) {
      const Range some = part(count, strips, i);
      strip.rows = plan.flat ? 1 : some.end - some.begin;
      strip.columns = plan.flat ? some.end - some.begin : p.out_w;
      strip.lines = b.lines + (plan.flat ? 0 : some.begin);
      const T* const from = g + some.begin * (plan.flat ? 1 : p.out_w) * strip.g_step;
      for (int64_t c = chunks.begin; c < chunks.end; ++c) {
        tiles(b, strip, from, c, width, some.begin, sums + sums_place(panel_index, c),
              add || i > 0);
      }
    }
  }

  // Unit i of a block's products.
  void unit(const Block& b, int64_t i, T* sums, bool add) const {
    const int64_t panel_index = i % plan.panels, group = i / plan.panels / plan.slices;
    const Range some = part(plan.chunks, plan.slices, i / plan.panels % plan.slices);
    multiply(b, group * plan.panels + panel_index,
             {group * plan.chunks + some.begin, group * plan.chunks + some.end}, sums, add);
  }
  int64_t units() const { return p.groups * plan.slices * plan.panels; }

  // Threads share the weight: all of them copy a block, then each multiplies it for its units.
  void shared(bool first, T* sums, char* memory, const Parallel& parallel) const {
    for (int64_t i = 0; i < plan.blocks(); ++i) {
      const Block b = block(i, memory);
      const int64_t in_rows = b.all_in_rows();
      parallel_for(parallel, in_rows + (plan.in_place ? 0 : b.all_rows()),
                   [&](int64_t begin, int64_t end, int32_t) {
                     for (int64_t r = begin; r < end; ++r) {
                       r < in_rows ? copy_input(b, r) : copy_grad(b, r - in_rows);
                     }
                   });
      parallel_for(parallel, units(), [&](int64_t begin, int64_t end, int32_t) {
        for (int64_t u = begin; u < end; ++u) unit(b, u, sums, !first || i > 0);
      });
    }
  }

  // Threads share the blocks: each has sums of its own. Which blocks these are does not depend on
  // how the caller hands out ranges, so that sums are the same each time.
  void apart(bool first, T* sums, char* memory, const Parallel& parallel) const {
    const int64_t parts = larger(parallel.threads, 1);
    parallel_for(parallel, parts, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t t = begin; t < end; ++t) {
        const Range blocks = part(plan.blocks(), parts, t);
        T* const own = sums + t * plan.sums;
        if (first && blocks.begin == blocks.end) zero(own, plan.sums);
        for (int64_t i = blocks.begin; i < blocks.end; ++i) {
          const Block b = block(i, memory + t * plan.block_bytes());
          for (int64_t r = 0; r < b.all_in_rows(); ++r) copy_input(b, r);
          for (int64_t r = 0; !plan.in_place && r < b.all_rows(); ++r) copy_grad(b, r);
          for (int64_t u = 0; u < units(); ++u) unit(b, u, own, !first || i > blocks.begin);
        }
      }
    });
  }

  // A panel's and a chunk's part of the weight, from the sums of all threads.
  void finish(int64_t panel_index, int64_t chunk_index, const T* sums, int64_t parts, T* weight,
              const Strides& strides) const {
    const Range filters = panel(panel_index), channels = chunk(chunk_index);
    const int64_t n = channels.end - channels.begin, count = filters.end - filters.begin;
    const int64_t width = panel_width(panel_index);
    const T* from = sums + sums_place(panel_index, chunk_index);
    T* const first =
        weight + filters.begin * strides.n + channels.begin % plan.group_in * strides.c;
    for (int64_t r = 0; r < p.window.kernel_h; ++r) {
      for (int64_t s = 0; s < p.window.kernel_w; ++s, from += n * width) {
        alignas(64) T total[kWeightGradChunk * WeightGradTiles<T>::kMostVecs * kLanes];
        for (int64_t i = 0; parts > 1 && i < n * width; i += kLanes) {
          V sum = V::load(from + i);
          for (int64_t t = 1; t < parts; ++t) sum = sum + V::load(from + t * plan.sums + i);
          sum.store(total + i);
        }
        const T* const tap = parts > 1 ? total : from;
        T* const to = first + r * strides.h + s * strides.w;
        if (strides.c == 1) {
          transpose(tap, width, to, strides.n, n, count);
          continue;
        }
        for (int64_t k = 0; k < count; ++k) {
          for (int64_t c = 0; c < n; ++c) to[k * strides.n + c * strides.c] = tap[c * width + k];
        }
      }
    }
  }
};

template <typename T>
int64_t weight_grad_sums_bytes(const Conv2dParams& params, int32_t threads) {
  const WeightGradPlan plan = plan_weight_grad<T>(seen_rows_only(params), threads);
  return plan.sums * int64_t{sizeof(T)} * (plan.shared ? 1 : larger(threads, 1));
}

template <typename T>
int64_t weight_grad_workspace_bytes(const Conv2dParams& params, int32_t threads) {
  const WeightGradPlan plan = plan_weight_grad<T>(seen_rows_only(params), threads);
  return plan.block_bytes() * (plan.shared ? 1 : larger(threads, 1));
}

template <typename T>
void weight_grad_add(const Conv2dParams& params, const T* input, const T* grad, bool first,
                     void* sums, void* workspace, const Parallel& parallel) {
  const Conv2dParams p = seen_rows_only(params);
  const WeightGradPlan plan = plan_weight_grad<T>(p, parallel.threads);
  const WeightGrad<T> all{p, plan, input, grad};
  T* const to = static_cast<T*>(sums);
  if (p.batch * p.out_h * p.out_w == 0) {
    if (first) WeightGrad<T>::zero(to, plan.sums * (plan.shared ? 1 : parallel.threads));
  } else if (plan.shared) {
    all.shared(first, to, static_cast<char*>(workspace), parallel);
  } else {
    all.apart(first, to, static_cast<char*>(workspace), parallel);
  }
}

template <typename T>
void weight_grad_finish(const Conv2dParams& params, const void* sums, T* weight,
                        const Strides& strides, const Parallel& parallel) {
  const Conv2dParams p = seen_rows_only(params);
  const WeightGradPlan plan = plan_weight_grad<T>(p, parallel.threads);
  const WeightGrad<T> all{p, plan, nullptr, nullptr};
  const int64_t parts = plan.shared ? 1 : parallel.threads;
  const int64_t panels = p.groups * plan.panels;
  parallel_for(parallel, panels * plan.chunks, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t panel = i / plan.chunks, group = panel / plan.panels;
      all.finish(panel, group * plan.chunks + i % plan.chunks, static_cast<const T*>(sums), parts,
                 weight, strides);
    }
  });
}

}  // namespace
}  // namespace zoo
