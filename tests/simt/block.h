// Runs a grid of blocks on the host: the threads of a block are fibers, each of which runs until it
// waits for others. In which order they run is the test's choice, as the device's is nobody's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/plan.h"

namespace zoo::simt {

enum class Order { forward, reversed, shuffled };

// Where in a kernel its threads meet.
struct Site {
  const char* file = "";
  int32_t line = 0;

  bool operator<(const Site& o) const {
    return line != o.line ? line < o.line : std::string(file) < o.file;
  }
  bool operator==(const Site& o) const { return !(*this < o) && !(o < *this); }
};

// What a launch does beside running the body, and what it saw.
struct Run {
  Order order = Order::forward;
  uint64_t seed = 1;
  Site removed;          // a barrier that is taken out: nobody waits there
  std::set<Site> sites;  // the barriers that were met
};

// Threads that wait for what will not come.
struct Deadlock : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Warp {
  float lanes[32];
  float a[256], b[256];
};

class Fibers;

class Block {
 public:
  Block(int32_t threads, Run& run, std::mt19937_64& random, Fibers& fibers)
      : threads_(threads), run_(run), random_(random), fibers_(fibers) {}

  // Runs `body` as every thread of the block. Throws Deadlock.
  void run(const std::function<void(int32_t thread)>& body);

  // From inside a thread: waits for the others of its block, or the 32 of its warp.
  void sync(const Site& site);
  void sync_warp(const Site& site);

  // What a thread's warp exchanges numbers by.
  Warp& warp(int32_t thread) { return warps_[static_cast<std::size_t>(thread / 32)]; }
  // Shared memory of that many bytes: no more, and of no useful value.
  void* shared(std::size_t bytes);
  uint64_t seed() const { return run_.seed; }

  int64_t x = 0, y = 0, z = 0;

 private:
  enum class State { ready, at_block, at_warp, ended };
  void wait(State state, const Site& site);
  void release();
  std::string where(int32_t thread) const;

  int32_t threads_, current_ = 0;
  Run& run_;
  std::mt19937_64& random_;
  Fibers& fibers_;
  std::vector<State> states_;
  std::vector<Site> sites_;
  std::vector<Warp> warps_;
  std::unique_ptr<char[]> shared_;
  char* shared_begin_ = nullptr;
  std::size_t shared_bytes_ = 0;
};

// Runs the blocks of a grid, in the run's order too.
void launch(const cuda::Grid& grid, Run& run, const std::function<void(Block&, int32_t)>& body);

}  // namespace zoo::simt
