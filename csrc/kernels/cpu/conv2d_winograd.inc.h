// 3x3 convolutions with stride 1 by Winograd's method: F(4x4) needs 2.25 products an output, F(2x2)
// 4, where the definition has 9 (conv2d_winograd_transform.inc.h).
//
// The output is cut into tiles, and these into blocks. The inputs of a block's tiles, which overlap
// by two pixels, are transformed; that leaves a matrix product for each of the points: tiles x
// channels times channels x filters, by the GEMM's microkernel. Panel by panel (32 filters), while
// the products are in L2, they are transformed to outputs and go through bias, residual, activation
// and the 2x2 pool.
#pragma once

#include "activation.inc.h"
#include "conv2d_winograd_plan.inc.h"
#include "conv2d_winograd_transform.inc.h"

namespace zoo {
namespace {

template <typename T, typename F>
struct Winograd {
  using V = Vec<T>;
  static constexpr int kIn = F::kIn, kOut = F::kOut, kPoints = kIn * kIn;
  static constexpr int64_t kLanes = V::kLanes, kChunk = ShortRows<T>::kChunk;
  static constexpr GemmTiles<T, ShortRows<T>> kTiles = GemmTiles<T, ShortRows<T>>::make();

  const Conv2dParams& p;
  const WinogradPlan& plan;
  const T* input;
  Strides in;  // of input; channels together
  const T* weight;
  const T* bias;
  const T* residual;
  T* output;
  char* workspace;
  bool around;  // the output is streamed, a line at a time

  // A tile's place: its map, and its row and column among the tiles of that map.
  struct Place {
    int64_t image, y, x;
  };

  Place place(int64_t tile) const {
    const int64_t line = tile / plan.tiles_w;
    return {line / plan.tiles_h, line % plan.tiles_h, tile % plan.tiles_w};
  }
  void advance(Place& at) const {
    if (++at.x < plan.tiles_w) return;
    at.x = 0;
    if (++at.y < plan.tiles_h) return;
    at.y = 0;
    ++at.image;
  }

  // B' d B for n channels at `from`, where the tile's input begins. Rows and columns outside of the
  // ranges are padding.
  template <bool kEdge>
  [[gnu::noinline]] void transform_input(const T* from, Range rows, Range columns, int64_t n,
                                         T* to) const {
    alignas(64) T half_done[kPoints * kLanes];
    // Copies, as a store could change the originals for all that the compiler knows.
    const int64_t line = in.h, pixel = in.w, point = plan.input_point;
    V d[kIn], t[kIn];
#pragma GCC unroll 1
    for (int s = 0; s < kIn; ++s, from += pixel) {
      ZOO_UNROLL
      for (int r = 0; r < kIn; ++r) {
        if (!kEdge) {
          d[r] = V::load(from + r * line);
        } else if (s >= columns.begin && s < columns.end && r >= rows.begin && r < rows.end) {
          d[r] = V::load(from + r * line, n);
        } else {
          d[r] = V::zero();
        }
      }
      F::template input<V, T>(d, t);
      ZOO_UNROLL
      for (int r = 0; r < kIn; ++r) t[r].store(half_done + (r * kIn + s) * kLanes);
    }
#pragma GCC unroll 1
    for (int r = 0; r < kIn; ++r, to += kIn * point) {
      ZOO_UNROLL
      for (int s = 0; s < kIn; ++s) d[s] = V::load(half_done + (r * kIn + s) * kLanes);
      F::template input<V, T>(d, t);
      ZOO_UNROLL
      for (int s = 0; s < kIn; ++s) t[s].store(to + s * point);
    }
  }

  // The transformed input of a block of tiles, in these chunks of channels.
  void transform_block(Range tiles, Range chunks, T* transformed) const {
    const int64_t end = lesser(chunks.end * kChunk, p.in_channels);
    Place at = place(tiles.begin);
    for (int64_t i = 0; i < tiles.end - tiles.begin; ++i, advance(at)) {
      const int64_t h = at.y * kOut - p.window.pad_h, w = at.x * kOut - p.window.pad_w;
      const Range rows = taps_inside(h, kIn, 1, p.in_h), columns = taps_inside(w, kIn, 1, p.in_w);
      const bool inside = rows.end - rows.begin == kIn && columns.end - columns.begin == kIn;
      const T* const from = input + offset(in, at.image, 0, h, w);
      for (int64_t c = chunks.begin * kChunk; c < end; c += kLanes) {
        T* const to = transformed + (c / kChunk * plan.rows + i) * kChunk + c % kChunk;
        if (inside && c + kLanes <= end) {
          transform_input<false>(from + c, rows, columns, kLanes, to);
        } else {
          transform_input<true>(from + c, rows, columns, lesser(kLanes, end - c), to);
        }
      }
    }
  }

  // At each point, `rows` tiles times one panel.
  void multiply(const T* transformed, int64_t rows, int64_t panel, T* products) const {
    constexpr int64_t kTileColumns = V::kTileVecs * kLanes;
    const int64_t depth = p.in_channels, columns = lesser(kPanel, p.out_channels - panel * kPanel);
    GemmColumns<T> at{};
    at.next = plan.rows * kChunk;
    at.strip = depth * kStrip;
    at.ahead_step = ceil_div(kStrip, ceil_div(rows, V::kTileRows));
    const T* b = weight + panel * kPoints * depth * kPanel;
    for (int point = 0; point < kPoints; ++point, b += depth * kPanel) {
      for (int64_t k = 0; k < depth; k += kWinogradDepth) {
        at.depth = lesser(kWinogradDepth, depth - k);
        at.a = transformed + k * plan.rows;
        at.add = k > 0;
        for (int64_t j = 0; j < columns; j += kTileColumns) {
          at.b = b + in_panel(j, depth) + k * kStrip;
          at.c = products + j;
          // Each tile fetches its share of what is multiplied next: the panel's other strip, more
          // depth, or the next point.
          at.ahead = j + kTileColumns < columns ? b + in_panel(j + kTileColumns, depth) + k * kStrip
                     : k + at.depth < depth     ? b + (k + at.depth) * kStrip
                                                : b + depth * kPanel;
          kTiles(at, rows);
        }
      }
      transformed += plan.input_point;
      products += plan.product_point;
    }
  }

  // A' m, the first half of A' m A.
  void transform_columns(const T* m, T* half_done) const {
    const int64_t point = plan.product_point;
    V d[kIn], y[kOut];
#pragma GCC unroll 1
    for (int s = 0; s < kIn; ++s, m += point) {
      ZOO_UNROLL
      for (int r = 0; r < kIn; ++r) d[r] = V::load(m + r * kIn * point);
      F::template output<V, T>(d, y);
      ZOO_UNROLL
      for (int r = 0; r < kOut; ++r) y[r].store(half_done + (r * kIn + s) * kLanes);
    }
  }

  static void transform_row(const T* half_done, V (&y)[kOut]) {
    V d[kIn];
    ZOO_UNROLL
    for (int s = 0; s < kIn; ++s) d[s] = V::load(half_done + s * kLanes);
    F::template output<V, T>(d, y);
  }

  // A step of pooling: NaN wins, as it does in a maximum of PyTorch's.
  template <Pool kPool>
  static V join(V a, V b) {
    return kPool == Pool::max ? select(is_nan(a), a, max(a, b)) : a + b;
  }
  template <Pool kPool>
  static V joined(V x) {
    return kPool == Pool::max ? x : x * V::broadcast(T(0.25));
  }

  template <Pool kPool>
  static V pool(const V (&x)[4]) {
    return joined<kPool>(join<kPool>(join<kPool>(x[0], x[1]), join<kPool>(x[2], x[3])));
  }

  // A whole tile, a whole vector of channels, no activation (least is -inf) or ReLU (0).
  template <Pool kPool>
  [[gnu::noinline]] void finish_whole(const T* m, V shift, V least, const T* extra, T* to) const {
    alignas(64) T half_done[kOut * kIn * kLanes];
    const int64_t line = p.output.h, pixel = p.output.w;
    const int64_t extra_line = p.residual.h, extra_pixel = p.residual.w;
    transform_columns(m, half_done);
    const auto row = [&](int r, V(&y)[kOut]) {
      transform_row(half_done + r * kIn * kLanes, y);
      ZOO_UNROLL
      for (int q = 0; q < kOut; ++q) y[q] = y[q] + shift;
      if (extra != nullptr) {
        ZOO_UNROLL
        for (int q = 0; q < kOut; ++q) {
          y[q] = y[q] + V::load(extra + r * extra_line + q * extra_pixel);
        }
      }
      ZOO_UNROLL
      for (int q = 0; q < kOut; ++q) y[q] = max(least, y[q]);
    };
    V y[kOut];
    if constexpr (kPool == Pool::none) {
#pragma GCC unroll 1
      for (int r = 0; r < kOut; ++r, to += line) {
        row(r, y);
        ZOO_UNROLL
        for (int q = 0; q < kOut; ++q) {
          if (around) {
            y[q].stream(to + q * pixel);
          } else {
            y[q].store(to + q * pixel);
          }
        }
      }
    } else {
#pragma GCC unroll 1
      for (int r = 0; r < kOut; r += 2, to += line) {
        V above[kOut / 2];
        row(r, y);
        ZOO_UNROLL
        for (int q = 0; q < kOut / 2; ++q) above[q] = join<kPool>(y[2 * q], y[2 * q + 1]);
        row(r + 1, y);
        ZOO_UNROLL
        for (int q = 0; q < kOut / 2; ++q) {
          joined<kPool>(join<kPool>(above[q], join<kPool>(y[2 * q], y[2 * q + 1])))
              .store(to + q * pixel);
        }
      }
    }
  }

  // Any tile, n channels, any activation and strides.
  [[gnu::noinline]] void finish_any(const T* m, V shift, const Place& at, int64_t channel,
                                    int64_t n) const {
    alignas(64) T half_done[kOut * kIn * kLanes], result[kOut * kOut * kLanes];
    transform_columns(m, half_done);
    int64_t y = at.y * kOut, x = at.x * kOut;
    int64_t rows = lesser(kOut, p.out_h - y), columns = lesser(kOut, p.out_w - x);
    for (int64_t r = 0; r < rows; ++r) {
      V line[kOut];
      transform_row(half_done + r * kIn * kLanes, line);
      T* const to = result + r * kOut * kLanes;
      ZOO_UNROLL
      for (int q = 0; q < kOut; ++q) (line[q] + shift).store(to + q * kLanes);
      for (int64_t q = 0; q < columns; ++q) {
        V value = V::load(to + q * kLanes);
        if (residual != nullptr) {
          const T* const extra = residual + offset(p.residual, at.image, channel, y + r, x + q);
          value = value + load_lanes(extra, p.residual.c, n);
        }
        value.store(to + q * kLanes);
      }
    }
    activate_rows(p.activation, result, rows, kOut * kLanes, columns * kLanes);
    if (p.pool != Pool::none) {
      // In place: a window is read before anything is written to its rows and columns.
      y /= 2, x /= 2;
      rows = lesser(kOut / 2, p.pool_h - y), columns = lesser(kOut / 2, p.pool_w - x);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t q = 0; q < columns; ++q) {
          const T* const a = result + (2 * r * kOut + 2 * q) * kLanes;
          const T* const b = a + kOut * kLanes;
          const V c[] = {V::load(a), V::load(a + kLanes), V::load(b), V::load(b + kLanes)};
          const V pooled = p.pool == Pool::max ? pool<Pool::max>(c) : pool<Pool::avg>(c);
          pooled.store(result + (r * kOut + q) * kLanes);
        }
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      const T* const from = result + r * kOut * kLanes;
      T* const to = output + offset(p.output, at.image, channel, y + r, x);
      if (p.output.c != 1) {
        from_channels_last(from, kLanes, to, p.output, columns, n);
        continue;
      }
      for (int64_t q = 0; q < columns; ++q)
        V::load(from + q * kLanes).store(to + q * p.output.w, n);
    }
  }

  // From a block's products with a panel to its outputs.
  void finish(Range tiles, int64_t panel, const T* products) const {
    const int64_t first = panel * kPanel, columns = lesser(kPanel, p.out_channels - first);
    alignas(64) T shift[kPanel] = {};
    if (bias != nullptr) {
      __builtin_memcpy(shift, bias + first, static_cast<std::size_t>(columns) * sizeof(T));
    }
    const bool vectors =
        p.output.c == 1 && (residual == nullptr || p.residual.c == 1) && is_simple(p.activation);
    const V least = V::broadcast(least_of<T>(p.activation));
    const auto whole = p.pool == Pool::none  ? &Winograd::finish_whole<Pool::none>
                       : p.pool == Pool::max ? &Winograd::finish_whole<Pool::max>
                                             : &Winograd::finish_whole<Pool::avg>;
    const int64_t shrink = p.pool == Pool::none ? 1 : 2;
    Place at = place(tiles.begin);
    for (int64_t i = 0; i < tiles.end - tiles.begin; ++i, advance(at)) {
      const int64_t y = at.y * kOut, x = at.x * kOut;
      const bool inside = y + kOut <= p.out_h && x + kOut <= p.out_w;
      for (int64_t j = 0; j < columns; j += kLanes) {
        const T* const m = products + i * kPanel + j;
        if (vectors && inside && j + kLanes <= columns) {
          const T* const extra = residual == nullptr
                                     ? nullptr
                                     : residual + offset(p.residual, at.image, first + j, y, x);
          (this->*whole)(m, V::load(shift + j), least, extra,
                         output + offset(p.output, at.image, first + j, y / shrink, x / shrink));
        } else {
          finish_any(m, V::load(shift + j), at, first + j, lesser(kLanes, columns - j));
        }
      }
    }
  }

  int64_t chunks() const { return ceil_div(p.in_channels, kChunk); }
  Range block(int64_t i) const { return part(plan.tiles, plan.blocks, i); }

  // Each thread has blocks of its own.
  void by_tiles(const Parallel& parallel) const {
    parallel_for(parallel, plan.blocks, [&](int64_t begin, int64_t end, int32_t thread) {
      char* const memory = workspace + thread * plan.thread_bytes();
      T* const transformed = reinterpret_cast<T*>(memory);
      T* const products = reinterpret_cast<T*>(memory + plan.input_bytes);
      for (int64_t i = begin; i < end; ++i) {
        const Range tiles = block(i);
        transform_block(tiles, {0, chunks()}, transformed);
        for (int64_t panel = 0; panel < plan.panels; ++panel) {
          multiply(transformed, tiles.end - tiles.begin, panel, products);
          finish(tiles, panel, products);
        }
      }
      if (around) V::fence();
    });
  }

  // All threads transform the input, then each has panels of its own.
  void by_panels(const Parallel& parallel) const {
    const auto transformed = [&](int64_t i) {
      return reinterpret_cast<T*>(workspace + i * plan.input_bytes);
    };
    parallel_for(parallel, plan.blocks * chunks(), [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t chunk = i % chunks();
        transform_block(block(i / chunks()), {chunk, chunk + 1}, transformed(i / chunks()));
      }
    });
    const int64_t units = plan.panels * plan.blocks;
    parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
      T* const products =
          reinterpret_cast<T*>(workspace + plan.shared_bytes() + thread * plan.thread_bytes());
      for (int64_t i = begin; i < end; ++i) {
        const int64_t panel = i / plan.blocks, b = i % plan.blocks;
        const Range tiles = block(b);
        multiply(transformed(b), tiles.end - tiles.begin, panel, products);
        finish(tiles, panel, products);
      }
      if (around) V::fence();
    });
  }
};

template <typename T, typename F>
int64_t winograd_workspace_bytes(const Conv2dParams& p, int32_t threads) {
  const WinogradPlan plan = plan_winograd<T, F>(p, threads);
  return (plan.staged ? staging_bytes<T>(p) : 0) + plan.shared_bytes() +
         plan.thread_bytes() * threads;
}

template <typename T, typename F>
void winograd_run(const Conv2dParams& p, const T* input, const T* weight, const T* bias,
                  const T* residual, T* output, void* workspace, const Parallel& parallel) {
  const WinogradPlan plan = plan_winograd<T, F>(p, parallel.threads);
  if (plan.tiles == 0) return;
  constexpr bool kLine = Vec<T>::kLanes * sizeof(T) == 64;
  Winograd<T, F> winograd{p,
                          plan,
                          input,
                          p.input,
                          weight,
                          bias,
                          residual,
                          output,
                          static_cast<char*>(workspace),
                          kLine && writes_around(p, residual, output)};
  if (plan.staged) {
    T* const staged = static_cast<T*>(workspace);
    to_channels_last(p, input, staged, parallel);
    winograd.input = staged;
    winograd.in = staged_strides(p);
    winograd.workspace += staging_bytes<T>(p);
  }
  if (plan.shared) {
    winograd.by_panels(parallel);
  } else {
    winograd.by_tiles(parallel);
  }
}

}  // namespace
}  // namespace zoo
