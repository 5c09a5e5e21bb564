#include "cli/machines_option.h"

#include <algorithm>

#include "base/machine_memory.h"
#include "base/ordered_work.h"
#include "ops/memory.h"
#include "report/run_record.h"

namespace retort {
namespace {

std::string seconds_of(double seconds) {
  return seconds >= 100 ? fmt::format("{:.0f} s", seconds)
         : seconds >= 1 ? fmt::format("{:.2f} s", seconds)
                        : fmt::format("{:.1f} ms", 1000 * seconds);
}

std::string megabytes(double count) {
  return count >= 1e9 ? fmt::format("{:.2f} GB", count / 1e9) : fmt::format("{:.1f} MB", count / 1e6);
}

std::string ranks_of(const MachinePlan& machine) {
  return machine.ranks == 1 ? fmt::format("{}", machine.first)
                            : fmt::format("{}-{}", machine.first, machine.first + machine.ranks - 1);
}

std::string counted(int64_t count, const char* one, const char* more) {
  return count == 1 ? fmt::format("1 {}", one) : fmt::format("{} {}", count, more);
}

std::string counts(const RankPlan& plan) {
  return fmt::format("{} on {}", counted(plan.ranks, "rank", "ranks"),
                     counted(static_cast<int64_t>(plan.machines.size()), "machine", "machines"));
}

std::string speed(const RankPlan& plan) {
  return fmt::format("a step in {}, {:.0f} tokens/s, {:.2f} times one rank (efficiency {:.2f})",
                     seconds_of(plan.seconds), plan.tokens_per_second, plan.speed_up, plan.efficiency());
}

// Equal machines that follow each other would be a row for each of 64.
Table machine_table(const RankPlan& plan) {
  constexpr size_t kFirst = 8;
  Table table;
  table.head = {"machine",  "ranks",     "memory", "of",     "sent a step",
                "received", "computing", "sums",   "waiting"};
  const auto count = plan.machines.size();
  for (size_t m = 0; m < count; ++m) {
    if (count > 2 * kFirst && m >= kFirst && m + 1 < count) continue;
    const auto& machine = plan.machines[m];
    table.rows.push_back({machine.name, ranks_of(machine), megabytes(static_cast<double>(machine.memory)),
                          megabytes(static_cast<double>(machine.room)), megabytes(machine.sent),
                          megabytes(machine.received), seconds_of(machine.computing),
                          seconds_of(machine.sums), seconds_of(machine.waiting)});
  }
  if (count > 2 * kFirst)
    table.rows.insert(table.rows.end() - 1,
                      {fmt::format("... {} more", count - kFirst - 1), "", "", "", "", "", "", "", ""});
  return table;
}

Table count_table(const RankPlans& plans) {
  Table table;
  table.head = {"machines",       "ranks",      "a step",       "tokens/s",
                "times one rank", "efficiency", "moved a step", "memory"};
  for (const auto& [count, plan] : plans.first_machines)
    table.rows.push_back({fmt::format("{}", count), fmt::format("{}", plan.ranks), seconds_of(plan.seconds),
                          fmt::format("{:.0f}", plan.tokens_per_second), fmt::format("{:.2f}", plan.speed_up),
                          fmt::format("{:.2f}", plan.efficiency()), megabytes(plan.moved),
                          plan.fits() ? "enough" : "too little"});
  return table;
}

OrderedJson json_of(const RankPlan& plan) {
  OrderedJson out = {{"ranks", plan.ranks},          {"fits", plan.fits()},
                     {"step_seconds", plan.seconds}, {"tokens_per_second", plan.tokens_per_second},
                     {"speed_up", plan.speed_up},    {"efficiency", plan.efficiency()},
                     {"moved_bytes", plan.moved},    {"machines", OrderedJson::array()}};
  for (const auto& machine : plan.machines)
    out["machines"].push_back({{"name", machine.name},
                               {"first_rank", machine.first},
                               {"ranks", machine.ranks},
                               {"memory_bytes", machine.memory},
                               {"room_bytes", machine.room},
                               {"sent_bytes", machine.sent},
                               {"received_bytes", machine.received},
                               {"computing_seconds", machine.computing},
                               {"sums_seconds", machine.sums},
                               {"waiting_seconds", machine.waiting}});
  return out;
}

}  // namespace

std::vector<RankMachine> MachinesOptions::machines() const {
  const auto measured = [] { return memory_speed(1) * 1e9; };  // for this, 256 MiB are read
  std::vector<RankMachine> all;
  if (file.empty()) {
    const auto copying = measured();
    all = {{.name = "here",
            .threads = usable_threads(0),
            .memory = machine_memory().available,
            .link = copying,
            .latency = MachineSpec().latency_us * 1e-6,
            .copying = copying}};
  } else {
    const auto list = load_machines(file);
    const bool all_say = std::ranges::all_of(list.machines, [](const auto& m) { return m.copy_gbytes > 0; });
    all = rank_machines(list, all_say ? 0 : measured());
  }
  for (auto& machine : all)
    if (machine.ranks == 0) machine.ranks = ranks;
  return all;
}

void add_machines_options(CLI::App& command, MachinesOptions& options) {
  command
      .add_option(
          "--ranks", options.ranks,
          "processes of `retort-ranks` on this machine, or on each of --machines that names no number: "
          "memory, bytes and seconds of a step, and the best number")
      ->check(CLI::Range(int64_t{1}, int64_t{1024}));
  command.add_option(
      "--machines", options.file,
      "YAML with a list of machines that ranks may run on, each with name, threads and memory "
      "(count, ranks, link_gbit, latency_us, copy_gbytes): the same for them, and how to divide "
      "ranks among them");
}

void require_threads(const MachinesOptions& options, const std::vector<RankMachine>& machines,
                     int64_t threads) {
  int64_t most = 0;
  bool said = false;
  for (const auto& machine : machines) {
    most = std::max(most, machine.threads);
    said = said || machine.ranks > 0;
  }
  if (!said && most < threads)
    throw RecipeError(fmt::format(
        "{}: no machine has the {} threads of a rank, the largest has {}; lower the threads of a rank "
        "(train.threads, `retort plan --threads`), or write `ranks`",
        printable(options.file), threads, most));
}

std::string describe(const LoneStep& step, const RankPlans& plans) {
  auto text = fmt::format(
      "ranks        each with {}; a step of {}, {} by one rank alone; {} of sums go from rank to rank\n",
      counted(step.threads, "thread", "threads"), counted(step.forests, "forest", "forests"),
      seconds_of(step.seconds + step.undivided_seconds), megabytes(message_bytes(step)));
  if (const auto* shown = plans.shown())
    text += fmt::format("{:<12} {}: {}; {} moved a step\n\n{}", plans.planned ? "planned" : "best",
                        counts(*shown), speed(*shown), megabytes(shown->moved),
                        table_text(machine_table(*shown)));
  if (plans.first_machines.size() > 1) text += "\n" + table_text(count_table(plans));
  if (!plans.best) {
    text += "\nbest         none: no machine has the memory and the threads for a rank\n";
  } else if (plans.planned) {
    std::string where;
    const auto& machines = plans.best->machines;
    for (size_t m = 0; m < std::min<size_t>(machines.size(), 8); ++m)
      where += fmt::format("{}{} {}", m == 0 ? "" : ", ", machines[m].name, machines[m].ranks);
    if (machines.size() > 8) where += ", ...";
    text += fmt::format("\nbest         {} ({}): {}\n", counts(*plans.best), where, speed(*plans.best));
  }
  return text;
}

OrderedJson json_of(const LoneStep& step, const RankPlans& plans) {
  OrderedJson out = {{"threads", step.threads},
                     {"forests", step.forests},
                     {"tokens", step.tokens},
                     {"trainable_elements", step.trainable_elements},
                     {"message_bytes", message_bytes(step)},
                     {"one_rank_seconds", step.seconds + step.undivided_seconds},
                     {"undivided_seconds", step.undivided_seconds},
                     {"planned", nullptr},
                     {"best", nullptr},
                     {"first_machines", OrderedJson::array()}};
  if (plans.planned) out["planned"] = json_of(*plans.planned);
  if (plans.best) out["best"] = json_of(*plans.best);
  for (const auto& [count, plan] : plans.first_machines) {
    auto one = json_of(plan);
    one.erase("machines");
    one["machines"] = count;
    out["first_machines"].push_back(std::move(one));
  }
  return out;
}

std::string missing_memory(const RankPlans& plans) {
  const auto* shown = plans.shown();
  if (!shown)
    return "no machine has the memory and the threads for a rank; lower train.batch.pass_tokens or "
           "train.threads, or set train.recompute: true";
  for (const auto& machine : shown->machines)
    if (machine.memory > machine.room)
      return fmt::format(
          "{}: {} about {} of memory, and it has {}; start fewer ranks there, lower train.batch.pass_tokens "
          "or "
          "set train.recompute: true",
          machine.name, counted(machine.ranks, "rank needs", "ranks need"), bytes(machine.memory),
          bytes(machine.room));
  return "";
}

}  // namespace retort
