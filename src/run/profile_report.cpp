#include "run/profile_report.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/files.h"
#include "base/tell.h"
#include "ops/gemm.h"
#include "ops/gemm_forms.h"
#include "ops/memory.h"
#include "ops/workers.h"
#include "report/run_record.h"

namespace retort {

namespace {

constexpr const char* kStage = "stage";  // holds operations: on the trace, not in the table

std::string number_or_blank(double value, const char* unit = "") {
  return value > 0 ? fmt::format("{:.{}f}{}", value, value < 10 ? 1 : 0, unit) : "";
}

// The least seconds that one thread would need for it, arithmetic and memory side by side.
double least_seconds(const WorkTotal& total, const MachineSpeed& machine) {
  return std::max(total.flop * 1e-9 / machine.gflops,
                  total.bytes * 1e-9 / (machine.gbytes / static_cast<double>(machine.threads)));
}

}  // namespace

MachineSpeed machine_speed(at::ScalarType compute, int64_t threads) {
  const auto& kernel = gemm_kernel(compute == at::kFloat ? Operand::f32 : Operand::bf16);
  const std::string form = form_name(kernel);
  return {form.empty() ? kernel.name : fmt::format("{}, tiles of {}", kernel.name, form),
          gemm_speed(kernel).peak, memory_speed(threads), threads};
}

Table profile_table(const Profile& profile, const MachineSpeed& machine) {
  Table table;
  table.title = "Operations";
  table.head = {"operation", "calls", "seconds", "of all", "GFLOP/s", "of peak", "GB/s", "limit"};
  double all = 0;
  for (const auto& total : profile.totals)
    if (total.kind != kStage) all += total.cpu_seconds;
  for (const auto& total : profile.totals) {
    if (total.kind == kStage || all <= 0) continue;
    const auto seconds = std::max(total.cpu_seconds, 1e-9),
               thread_seconds = std::max(total.thread_seconds, 1e-9);
    table.rows.push_back({total.kind.empty() ? total.name : fmt::format("{} ({})", total.name, total.kind),
                          fmt::format("{}", total.count), fmt::format("{:.2f}", total.cpu_seconds),
                          fmt::format("{:.1f} %", 100 * total.cpu_seconds / all),
                          number_or_blank(total.flop * 1e-9 / seconds),
                          number_or_blank(100 * total.flop * 1e-9 / (thread_seconds * machine.gflops), " %"),
                          number_or_blank(total.bytes * 1e-9 / seconds),
                          number_or_blank(100 * least_seconds(total, machine) / thread_seconds, " %")});
  }
  return table;
}

std::string profile_summary(const Profile& profile, const MachineSpeed& machine) {
  double flop = 0, cpu = 0, thread_seconds = 0, least = 0;
  for (const auto& total : profile.totals) {
    if (total.kind == kStage) continue;
    flop += total.flop, cpu += total.cpu_seconds, thread_seconds += total.thread_seconds,
        least += least_seconds(total, machine);
  }
  if (thread_seconds <= 0) return "no operation ran";
  return fmt::format(
      "{:.1f} GFLOP in {:.1f} s of CPU time, {:.1f} % of the measured peak ({}: {:.0f} GFLOP/s a thread; "
      "memory: {:.0f} GB/s for {}); at the limits of arithmetic and memory it would take {:.0f} % of the "
      "time",
      flop * 1e-9, cpu, 100 * flop * 1e-9 / (thread_seconds * machine.gflops), machine.kernel, machine.gflops,
      machine.gbytes, machine.threads == 1 ? "1 thread" : fmt::format("{} threads", machine.threads),
      100 * least / thread_seconds);
}

std::string record_summary(const Profile& profile) {
  double seconds = 0;
  std::string parts;
  for (const char* name : {"ledger", "hashes of files", "hashes of batches"})
    for (const auto& total : profile.totals) {
      if (total.kind != kStage || total.name != name) continue;
      seconds += total.seconds;
      parts += fmt::format("{}{} {:.3f} s ({} times)", parts.empty() ? "" : ", ", name, total.seconds,
                           total.count);
    }
  return parts.empty() ? "no entry was written"
                       : fmt::format("{}: {:.2f} % of {:.1f} s", parts, 100 * seconds / profile.seconds,
                                     profile.seconds);
}

void report_profile(Run& run) {
  const auto profile = stop_profile();
  if (!run.ledger().worked()) return run.say("profile", "nothing to measure: every stage was done before");
  write_text(run.folder() / "profile.json", trace_json());
  const auto machine = machine_speed(run.compute(), usable_threads(run.recipe().train.threads));
  tell(fmt::format("{}\n{}", table_text(profile_table(profile, machine)), profile_summary(profile, machine)),
       stdout);
  if (profile.traced < profile.spans)
    tell(
        fmt::format("the trace holds the first {} of {} spans; the table all", profile.traced, profile.spans),
        stdout);
  tell("record    " + record_summary(profile), stdout);
  tell(fmt::format("profile   {}", (run.folder() / "profile.json").string()), stdout);
}

}  // namespace retort
