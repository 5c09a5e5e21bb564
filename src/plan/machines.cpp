#include "plan/machines.h"

#include "base/byte_size.h"
#include "base/error.h"
#include "base/files.h"
#include "spec/read.h"

namespace retort {

MachineList parse_machines(std::string_view text, const std::string& name) {
  std::vector<Problem> problems;
  const auto root = parse_yaml(text, name, problems);
  MachineList list;
  SpecReader reader(root, {}, problems, [](const std::string&, const std::string&, bool with_ours) {
    return std::string(with_ours
                           ? ""
                           : "a list has `machines`, and each of these name, count, ranks, threads, memory, "
                             "link_gbit, latency_us and copy_gbytes");
  });
  list.fields(reader);
  reader.finish();
  if (problems.empty() && list.machines.empty())
    problems.push_back({root.place,
                        "machines: missing; expected a list of machines, each with name, threads and "
                        "memory"});
  const auto* written = root.find("machines");
  for (size_t i = 0; problems.empty() && i < list.machines.size(); ++i) {
    const auto& memory = list.machines[i].memory;
    if (!byte_size(memory))
      problems.push_back(
          {written->items[i].find("memory")->place,
           fmt::format("machines[{}].memory: expected a size with a unit, like 64GiB, found '{}'", i,
                       printable(memory))});
  }
  throw_if_any(std::move(problems));
  return list;
}

MachineList load_machines(const std::filesystem::path& file) {
  return parse_machines(read_text(file, size_t{1} << 20), file.string());
}

std::vector<RankMachine> rank_machines(const MachineList& list, double copying) {
  std::vector<RankMachine> machines;
  for (const auto& spec : list.machines)
    for (int64_t i = 0; i < spec.count; ++i)
      machines.push_back({.name = spec.count == 1 ? spec.name : fmt::format("{}-{}", spec.name, i + 1),
                          .ranks = spec.ranks,
                          .threads = spec.threads,
                          .memory = byte_size(spec.memory).value(),
                          .link = spec.link_gbit * 1e9 / 8,
                          .latency = spec.latency_us * 1e-6,
                          .copying = spec.copy_gbytes > 0 ? spec.copy_gbytes * 1e9 : copying});
  return machines;
}

}  // namespace retort
