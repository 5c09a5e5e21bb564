// What the models give away of their training samples, side by side.
#pragma once
#include "report/page.h"
#include "run/run_stages.h"

namespace retort {

// A row for each model with a task of kind exposure or membership; without rows where there is none.
Table memorization_table(const std::vector<const ModelResult*>& models);

}  // namespace retort
