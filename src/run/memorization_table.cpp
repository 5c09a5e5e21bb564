#include "run/memorization_table.h"

#include "base/error.h"

namespace retort {
namespace {

const TaskResult* of_kind(const ModelResult& model, std::string_view kind) {
  for (const auto& task : model.tasks)
    if (task.kind == kind) return &task;
  return nullptr;
}

std::string number(const TaskResult* task, const char* metric, int digits) {
  const auto* value = task ? task->metric(metric) : nullptr;
  if (!value) return "-";
  const auto* interval = task->interval(metric);
  return fmt::format("{:.{}f}", *value, digits) +
         (interval ? fmt::format(" ({:.{}f} to {:.{}f})", interval->low, digits, interval->high, digits)
                   : std::string());
}

}  // namespace

Table memorization_table(const std::vector<const ModelResult*>& models) {
  Table table{"What is given away of the training samples", "", {"model"}, {}, false};
  bool canaries = false, samples = false;
  for (const auto* model : models) {
    canaries = canaries || of_kind(*model, "exposure");
    samples = samples || of_kind(*model, "membership");
  }
  if (canaries) {
    table.head.insert(table.head.end(), {"mean exposure", "highest exposure", "can be at most"});
    table.note +=
        "Exposure in bits: how far ahead a planted canary is of texts of its kind that were never learned; "
        "about 1.4 on the average where nothing was learned. ";
  }
  if (samples) {
    table.head.insert(table.head.end(), {"membership AUC", "found at 1 % false", "AUC of loss"});
    table.note +=
        "Membership: training samples told from held-out ones by how much their loss fell (of the base by "
        "the loss itself); 0.5 is chance, 95 % intervals in brackets. ";
  }
  if (!table.note.empty()) table.note.pop_back();
  for (const auto* model : models) {
    const auto *exposure = of_kind(*model, "exposure"), *membership = of_kind(*model, "membership");
    if (!exposure && !membership) continue;
    std::vector<std::string> row = {model->name};
    if (canaries)
      for (const char* metric : {"mean_exposure", "max_exposure", "limit"})
        row.push_back(number(exposure, metric, 2));
    if (samples) {
      row.push_back(number(membership, "auc", 3));
      const auto* found = membership ? membership->metric("tpr_at_1_percent_fpr") : nullptr;
      row.push_back(found ? fmt::format("{:.1f} %", 100 * *found) : "-");
      row.push_back(number(membership, "auc_of_loss", 3));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace retort
