// A list of machines that ranks may run on, as people write it.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "plan/rank_plan.h"
#include "spec/fields.h"

namespace retort {

struct MachineSpec {
  std::string name;
  int64_t count = 1;
  int64_t ranks = 0;
  int64_t threads = 1;
  std::string memory;
  double link_gbit = 10;
  double latency_us = 50;
  double copy_gbytes = 0;

  template <class Visitor> void fields(Visitor& field) {
    field("name", name, required(not_empty()), "what the machine is called");
    field("count", count, between(1, 1024), "so many that are equal; they are called NAME-1, NAME-2, ...");
    field("ranks", ranks, between(0, 1024), "ranks on each; 0: as many as are best");
    field("threads", threads, required(between(1, 4096)), "cores of each");
    field("memory", memory, required(not_empty()), "what ranks may take on each; a size like 64GiB");
    field("link_gbit", link_gbit, above(0), "10^9 bits a second of its network, each way");
    field("latency_us", latency_us, at_least(0),
          "microseconds until a message arrives, from program to program");
    field("copy_gbytes", copy_gbytes, at_least(0),
          "10^9 bytes a second that one thread reads and writes, at which sums are copied and added; 0: what "
          "is "
          "measured on this machine");
  }
};

struct MachineList {
  std::vector<MachineSpec> machines;

  template <class Visitor> void fields(Visitor& field) {
    field.list("machines", machines, "those that ranks may run on, in the order in which they are filled");
  }
};

// RecipeError with the place of every problem. `name` is that of the file.
MachineList parse_machines(std::string_view text, const std::string& name);
MachineList load_machines(const std::filesystem::path& file);

// `copying`: of machines that do not say it.
std::vector<RankMachine> rank_machines(const MachineList& list, double copying);

}  // namespace retort
