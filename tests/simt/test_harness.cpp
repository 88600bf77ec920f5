// The harness itself: what it is there to catch is planted, and has to be caught.
#include "support.h"

namespace zoo::simt {
namespace {

using Context = HostContext<true>;
constexpr Order kOrders[] = {Order::forward, Order::reversed, Order::shuffled};

void run_block(Run& run, const std::function<void(Context&)>& body) {
  launch({1, 1, 1, 64}, run, [&](Block& block, int32_t thread) {
    Context ctx(block, thread);
    body(ctx);
  });
}

struct Numbers64 {
  float x[64];
};

// Each thread writes one number and reads its neighbour's.
int neighbours(Run& run, bool with_sync, int32_t step) {
  int wrong = 0;
  run_block(run, [&](Context& ctx) {
    auto& shared = ctx.shared<Numbers64>();
    shared.x[ctx.thread()] = static_cast<float>(ctx.thread());
    if (with_sync) ctx.sync();
    const int32_t other = (ctx.thread() + step + 64) % 64;
    if (shared.x[other] != static_cast<float>(other)) ++wrong;
  });
  return wrong;
}

void planted_missing_sync() {
  for (int32_t step : {1, -1}) {
    int missed = 0;
    for (Order order : kOrders) {
      Run run;
      run.order = order;
      CHECK(neighbours(run, true, step) == 0);
      missed += neighbours(run, false, step) != 0;
    }
    CHECK(missed > 0);
  }
  test_removals("planted", [](Run& run) { return neighbours(run, true, 1); });
  // A barrier that is not needed: to be told so is the point of test_removals.
  std::string messages;
  apart(
      [] {
        test_removals("redundant", [](Run& run) {
          run_block(run, [](Context& ctx) { ctx.sync(); });
          return 0;
        });
        return 0;
      },
      &messages);
  CHECK(messages.find("redundant: nobody misses the barrier at") != std::string::npos);
}

// One element too far: in global memory, in shared memory, and in a vector access.
void planted_out_of_bounds() {
  const auto caught = [](const std::function<void(Context&, float*)>& body) {
    std::string messages;
    const int code = apart(
        [&] {
          const std::unique_ptr<float[]> data(new float[64]);
          Run run;
          run_block(run, [&](Context& ctx) { body(ctx, data.get()); });
          return 0;
        },
        &messages);
    return code != 0 && messages.find("AddressSanitizer") != std::string::npos;
  };
  CHECK(!caught([](Context& ctx, float* data) { data[ctx.thread()] = 1; }));
  CHECK(caught([](Context& ctx, float* data) { data[ctx.thread() + 1] = 1; }));
  CHECK(caught([](Context& ctx, float* data) { data[ctx.thread() - 1] = 1; }));
  CHECK(
      caught([](Context& ctx, float*) { (&ctx.shared<Numbers64>().x[0])[ctx.thread() + 1] = 1; }));
  CHECK(caught([](Context& ctx, float* data) {
    if (ctx.thread() == 0) ctx.store16(data + 64, {});
  }));
}

void planted_deadlock() {
  const auto message = [](const std::function<void(Context&)>& body) -> std::string {
    try {
      Run run;
      run_block(run, body);
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  };
  const auto says = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  const std::string different = message([](Context& ctx) {
    if (ctx.thread() < 40) {
      ctx.sync();
    } else {
      ctx.sync();
    }
  });
  CHECK(says(different, "thread 0 waits for its block at") && says(different, "thread 40 waits"));
  CHECK(says(message([](Context& ctx) {
               if (ctx.thread() != 7) ctx.sync();
             }),
             "thread 7 has ended"));
  CHECK(says(message([](Context& ctx) {
               if (ctx.thread() != 9) ctx.shfl_xor(1, 16);
             }),
             "thread 0 waits for its warp"));
  CHECK(says(message([](Context& ctx) { ctx.load4(&ctx.shared<Numbers64>().x[1]); }), "aligned"));
  CHECK(message([](Context& ctx) { ctx.sync(); }).empty());
}

void shuffles() {
  for (Order order : kOrders) {
    Run run;
    run.order = order;
    int wrong = 0;
    run_block(run, [&](Context& ctx) {
      float sum = static_cast<float>(ctx.thread());
      for (int32_t mask = 16; mask > 0; mask /= 2) sum += ctx.shfl_xor(sum, mask);
      const int32_t first = ctx.thread() / 32 * 32;
      if (sum != static_cast<float>(32 * first + 31 * 16)) ++wrong;
    });
    CHECK(wrong == 0);
  }
}

struct Matrices {
  alignas(32) cuda::Half a[16][24], b[16][24];
  alignas(32) float sums[16][20];
};

void matrices() {
  for (Order order : kOrders) {
    Run run;
    run.order = order;
    run.seed = 77;
    int wrong = 0;
    run_block(run, [&](Context& ctx) {
      auto& shared = ctx.shared<Matrices>();
      const auto value = [](int32_t row, int32_t k, int32_t factor) {
        return static_cast<float>((row * factor + k * 5) % 7 - 3);
      };
      if (ctx.thread() < 16) {
        for (int32_t k = 0; k < 16; ++k) {
          shared.a[ctx.thread()][k] = rounded<cuda::Half>(value(ctx.thread(), k, 3));
          shared.b[ctx.thread()][k] = rounded<cuda::Half>(value(ctx.thread(), k, 2));
        }
      }
      ctx.sync();
      if (ctx.thread() < 32) {  // one warp
        Context::Matrix<cuda::Half, Role::a> a;
        Context::Matrix<cuda::Half, Role::b> b;
        Context::Sums sums;
        ctx.clear(sums);
        ctx.load_matrix(a, &shared.a[0][0], 24);
        ctx.load_matrix(b, &shared.b[0][0], 24);
        ctx.multiply_add(sums, a, b);
        ctx.multiply_add(sums, a, b);
        ctx.store_sums(&shared.sums[0][0], sums, 20);
      }
      ctx.sync();
      for (int32_t e = ctx.thread(); e < 256; e += 64) {
        float sum = 0;
        for (int32_t k = 0; k < 16; ++k) sum += value(e / 16, k, 3) * value(e % 16, k, 2);
        if (shared.sums[e / 16][e % 16] != 2 * sum) ++wrong;
      }
    });
    CHECK(wrong == 0);
  }
}

}  // namespace

void test_harness() {
  planted_missing_sync();
  planted_out_of_bounds();
  planted_deadlock();
  shuffles();
  matrices();
}

// The thread sanitizer sees a race whatever the order in which threads happened to run: here each
// thread reads what the one before it wrote, which in this order goes well. And it does not see one
// where a barrier, a shuffle or a product of matrices keeps threads apart.
void test_races() {
  const auto run = [](const std::function<void(Context&, float*, float*)>& body) {
    std::string messages;
    apart(
        [&] {
          std::vector<float> in(64, 1), out(64);
          Run run;
          run_block(run, [&](Context& ctx) { body(ctx, in.data(), out.data()); });
          return 0;
        },
        &messages);
    return messages.find("data race") != std::string::npos;
  };
  const auto before = [](Context& ctx) { return ctx.thread() > 0 ? ctx.thread() - 1 : 0; };
  CHECK(run([=](Context& ctx, float* in, float* out) {
    auto& shared = ctx.shared<Numbers64>();
    shared.x[ctx.thread()] = in[ctx.thread()];
    out[ctx.thread()] = shared.x[before(ctx)];
  }));
  CHECK(!run([=](Context& ctx, float* in, float* out) {
    auto& shared = ctx.shared<Numbers64>();
    shared.x[ctx.thread()] = in[ctx.thread()];
    ctx.sync();
    out[ctx.thread()] = shared.x[before(ctx)];
  }));
  CHECK(run([=](Context& ctx, float*, float* out) {
    out[0] = 1;
    (void)ctx;
  }));
  CHECK(!run([=](Context& ctx, float* in, float* out) {
    out[ctx.thread()] = ctx.shfl_xor(in[ctx.thread()], 1);
  }));
}

// Rounding on the host, which stands in for the device's: every half and bfloat16 is itself, and
// what lies between two goes to the nearer, or the even one.
void test_elements() {
  const auto check = [](auto zero) {
    using T = decltype(zero);
    int wrong = 0;
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const T x{static_cast<uint16_t>(bits)}, next{static_cast<uint16_t>(bits + 1)};
      const float low = cuda::to_float(x), high = cuda::to_float(next);
      const T back = cuda::from_float<T>(low);
      if (std::isnan(low)) {
        wrong += !std::isnan(cuda::to_float(back));
        continue;
      }
      wrong += back.bits != x.bits;
      if (!std::isfinite(low) || !std::isfinite(high) || bits == 0x7fff) continue;
      const float middle = static_cast<float>((static_cast<double>(low) + high) / 2);
      const T even = bits % 2 == 0 ? x : next;
      wrong += cuda::from_float<T>(middle).bits != even.bits;
      wrong += cuda::from_float<T>(std::nextafter(middle, low)).bits != x.bits;
      wrong += cuda::from_float<T>(std::nextafter(middle, high)).bits != next.bits;
    }
    CHECK(wrong == 0);
  };
  check(cuda::Half{});
  check(cuda::BFloat16{});
  CHECK(cuda::to_float(cuda::Half{0x3c01}) == 1 + 0x1p-10f);
  CHECK(cuda::to_float(cuda::Half{0x0001}) == 0x1p-24f);
  CHECK(std::isinf(cuda::to_float(cuda::from_float<cuda::Half>(65520))));
  CHECK(cuda::to_float(cuda::from_float<cuda::Half>(65519)) == 65504);
}

}  // namespace zoo::simt
