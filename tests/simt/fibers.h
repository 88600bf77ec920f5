// Stacks of their own for the threads of a block, and switches between them and the scheduler's, of
// which the sanitizers are told. To the thread sanitizer each fiber is a thread, and it knows what
// happened before what from arrive() and leave() alone, not from the order in which fibers run.
#pragma once

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/tsan_interface.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace zoo::simt {

// A meeting of threads: what each did before it arrived is over when one leaves.
#ifdef ZOO_TSAN
inline void arrive(void* meeting) { __tsan_release(meeting); }
inline void leave(void* meeting) { __tsan_acquire(meeting); }
#else
inline void arrive(void*) {}
inline void leave(void*) {}
#endif

class Fibers {
 public:
  // Prepares `threads` fibers to run `body`, which must outlive them.
  void begin(int32_t threads, const std::function<void(int32_t thread)>& body) {
    body_ = &body;
    while (fibers_.size() < static_cast<std::size_t>(threads)) {
      fibers_.push_back(std::make_unique<Fiber>());
    }
    for (int32_t t = 0; t < threads; ++t) {
      Fiber& fiber = *fibers_[static_cast<std::size_t>(t)];
      ASAN_UNPOISON_MEMORY_REGION(fiber.stack.get(), kStack);  // of a block that was abandoned
      fiber.thread = t;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = nullptr;
      const auto self = reinterpret_cast<std::uintptr_t>(this);
      makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Fibers::enter), 2,
                  static_cast<uint32_t>(self >> 32), static_cast<uint32_t>(self));
    }
  }

  // From the scheduler: starts the thread's body, or goes on where it paused. Returns when it
  // pauses or ends.
  void resume(int32_t thread) {
    current_ = fibers_[static_cast<std::size_t>(thread)].get();
#ifdef ZOO_TSAN
    scheduler_fiber_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(current_->fiber, __tsan_switch_to_fiber_no_sync);
    swapcontext(&scheduler_, &current_->context);
#else
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, current_->stack.get(), kStack);
    swapcontext(&scheduler_, &current_->context);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }

  // From a thread: back to resume().
  void pause() { leave_fiber(false); }

 private:
  static constexpr std::size_t kStack = 64 << 10;
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[kStack]};
    int32_t thread = 0;
#ifdef ZOO_TSAN
    void* fiber = __tsan_create_fiber(0);
#else
    void* fake = nullptr;  // the address sanitizer's own stack
#endif
  };

  static void enter(uint32_t high, uint32_t low) {
    auto* self = reinterpret_cast<Fibers*>(static_cast<std::uintptr_t>(high) << 32 | low);
#ifndef ZOO_TSAN
    __sanitizer_finish_switch_fiber(nullptr, &self->stack_, &self->stack_bytes_);
#endif
    (*self->body_)(self->current_->thread);
    self->leave_fiber(true);
  }

  void leave_fiber([[maybe_unused]] bool forever) {
    Fiber& fiber = *current_;
#ifdef ZOO_TSAN
    __tsan_switch_to_fiber(scheduler_fiber_, __tsan_switch_to_fiber_no_sync);
    swapcontext(&fiber.context, &scheduler_);
#else
    __sanitizer_start_switch_fiber(forever ? nullptr : &fiber.fake, stack_, stack_bytes_);
    swapcontext(&fiber.context, &scheduler_);
    __sanitizer_finish_switch_fiber(fiber.fake, &stack_, &stack_bytes_);
#endif
  }

  std::vector<std::unique_ptr<Fiber>> fibers_;
  const std::function<void(int32_t)>* body_ = nullptr;
  Fiber* current_ = nullptr;
  ucontext_t scheduler_;
#ifdef ZOO_TSAN
  void* scheduler_fiber_ = nullptr;
#else
  const void* stack_ = nullptr;  // the scheduler's
  std::size_t stack_bytes_ = 0;
#endif
};

}  // namespace zoo::simt
