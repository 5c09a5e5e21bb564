// A process that says how another one ended.
#pragma once
#include <functional>

#include "base/error.h"

namespace retort {

// Does `work` in a child and returns what it returned. A child that a signal ended (kill -9, no memory left)
// is told in one line that names rank and host, and counts as a machine that failed: without this process,
// mpirun would end with 128 and the signal's number. To be called before the process has threads.
Exit supervised(const std::function<Exit()>& work);

}  // namespace retort
