// Not under the thread sanitizer itself: the scheduler's data are nobody's race. Blocks follow each
// other as far as it knows, so that races between blocks are not seen.
#include "block.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "fibers.h"

namespace zoo::simt {

void* Block::shared(std::size_t bytes) {
  constexpr std::size_t kAlign = 128;  // as the device's; what this leaves over is out of bounds
  if (shared_ == nullptr) {
    shared_bytes_ = bytes;
    shared_.reset(new char[bytes + kAlign]);
    std::memset(shared_.get(), 0xff, bytes + kAlign);  // NaN in every type of number
    char *start = shared_.get(), *end = start + bytes + kAlign;
    shared_begin_ = start + (kAlign - reinterpret_cast<std::uintptr_t>(start) % kAlign) % kAlign;
    ASAN_POISON_MEMORY_REGION(start, static_cast<std::size_t>(shared_begin_ - start));
    ASAN_POISON_MEMORY_REGION(shared_begin_ + bytes,
                              static_cast<std::size_t>(end - shared_begin_) - bytes);
    arrive(&shared_);
  }
  leave(&shared_);
  if (bytes != shared_bytes_) throw std::logic_error("shared memory of two sizes");
  return shared_begin_;
}

std::string Block::where(int32_t thread) const {
  const auto i = static_cast<std::size_t>(thread);
  if (states_[i] == State::ended) return "thread " + std::to_string(thread) + " has ended";
  return "thread " + std::to_string(thread) + " waits for its " +
         (states_[i] == State::at_warp ? "warp" : "block") + " at " + sites_[i].file + ":" +
         std::to_string(sites_[i].line);
}

// Lets those go on whose warp is complete, or all of them; throws where neither can be.
void Block::release() {
  bool some = false;
  for (int32_t first = 0; first < threads_; first += 32) {
    const int32_t last = first + 32;
    int32_t waiting = 0;
    for (int32_t t = first; t < last; ++t) {
      const auto i = static_cast<std::size_t>(t), j = static_cast<std::size_t>(first);
      waiting += states_[i] == State::at_warp && sites_[i] == sites_[j];
    }
    if (waiting != 32) continue;
    std::fill(states_.begin() + first, states_.begin() + last, State::ready);
    some = true;
  }
  if (some) return;
  for (int32_t t = 1; t < threads_; ++t) {
    const auto i = static_cast<std::size_t>(t);
    if (states_[i] != states_[0] || !(sites_[i] == sites_[0])) {
      throw Deadlock(where(0) + ", " + where(t));
    }
  }
  if (states_[0] == State::at_block) std::fill(states_.begin(), states_.end(), State::ready);
}

void Block::run(const std::function<void(int32_t)>& body) {
  if (threads_ % 32 != 0) throw std::logic_error("a block is whole warps");
  const auto count = static_cast<std::size_t>(threads_);
  states_.assign(count, State::ready);
  sites_.assign(count, {});
  warps_.resize(count / 32);
  // Two meetings: those who end must not seem to come before those who begin after them.
  void *const beginning = &run_, *const ending = &states_;
  arrive(beginning);
  std::exception_ptr error;
  const std::function<void(int32_t)> whole = [&](int32_t thread) {
    try {
      leave(beginning);
      body(thread);
    } catch (...) {
      error = std::current_exception();
    }
    arrive(ending);
    states_[static_cast<std::size_t>(thread)] = State::ended;
    sites_[static_cast<std::size_t>(thread)] = {};
  };
  fibers_.begin(threads_, whole);
  std::vector<int32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (run_.order == Order::reversed) std::reverse(order.begin(), order.end());
  const auto ended = [](State s) { return s == State::ended; };
  while (!std::all_of(states_.begin(), states_.end(), ended)) {
    if (run_.order == Order::shuffled) std::shuffle(order.begin(), order.end(), random_);
    for (int32_t thread : order) {
      if (states_[static_cast<std::size_t>(thread)] != State::ready) continue;
      current_ = thread;
      fibers_.resume(thread);
      if (error != nullptr) std::rethrow_exception(error);
    }
    release();
  }
  leave(ending);
}

void Block::wait(State state, const Site& site) {
  states_[static_cast<std::size_t>(current_)] = state;
  sites_[static_cast<std::size_t>(current_)] = site;
  fibers_.pause();
}

void Block::sync(const Site& site) {
  run_.sites.insert(site);
  if (site == run_.removed) return;
  arrive(this);
  wait(State::at_block, site);
  leave(this);
}

void Block::sync_warp(const Site& site) {
  Warp& mine = warp(current_);
  arrive(&mine);
  wait(State::at_warp, site);
  leave(&mine);
}

void launch(const cuda::Grid& grid, Run& run, const std::function<void(Block&, int32_t)>& body) {
  static Fibers fibers;
  std::mt19937_64 random(run.seed);
  std::vector<int64_t> order(static_cast<std::size_t>(grid.blocks()));
  std::iota(order.begin(), order.end(), 0);
  if (run.order == Order::reversed) std::reverse(order.begin(), order.end());
  if (run.order == Order::shuffled) std::shuffle(order.begin(), order.end(), random);
  for (int64_t i : order) {
    Block block(grid.threads, run, random, fibers);
    block.x = i % grid.x, block.y = i / grid.x % grid.y, block.z = i / grid.x / grid.y;
    block.run([&](int32_t thread) { body(block, thread); });
  }
}

}  // namespace zoo::simt
