#include "train/fingerprint.h"

#include <ATen/Version.h>
#include <elf.h>
#include <fmt/format.h>
#include <link.h>
#include <torch/version.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "base/hash.h"
#include "ops/device.h"
#include "ops/gemm.h"

namespace retort {

std::string build_id() {
  std::string id;
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* result) {
        for (int i = 0; i < object->dlpi_phnum; ++i) {
          const auto& header = object->dlpi_phdr[i];
          if (header.p_type != PT_NOTE) continue;
          const auto* note = reinterpret_cast<const char*>(object->dlpi_addr + header.p_vaddr);
          const auto* end = note + header.p_memsz;
          while (note + sizeof(ElfW(Nhdr)) <= end) {
            ElfW(Nhdr) head;
            std::memcpy(&head, note, sizeof head);
            const auto* name = note + sizeof head;
            const auto* value = name + (head.n_namesz + 3) / 4 * 4;
            if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0)
              for (uint32_t k = 0; k < head.n_descsz; ++k)
                *static_cast<std::string*>(result) +=
                    fmt::format("{:02x}", static_cast<unsigned char>(value[k]));
            note = value + (head.n_descsz + 3) / 4 * 4;
          }
        }
        return 1;  // the first object is the program itself
      },
      &id);
  return id.empty() ? "unknown" : id;
}

namespace {

// Libraries choose kernels by CPU model, not only by instruction set.
std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  std::string vendor, family, model;
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const auto value = line.substr(std::min(line.size(), line.find(':') + 1));
    if (line.starts_with("vendor_id")) vendor = value;
    if (line.starts_with("cpu family")) family = value;
    if (line.starts_with("model\t")) model = value;
  }
  return fmt::format("{} family{} model{} {}", vendor.empty() ? vendor : vendor.substr(1), family, model,
                     at::get_cpu_capability());
}

std::string hash_of(const Samples& samples) {
  Sha256 hash;
  for (const auto& sample : samples) {
    const uint64_t length = sample.tokens.size();
    hash.add(std::as_bytes(std::span(&length, 1)));
    hash.add(std::as_bytes(std::span(sample.tokens)));
    hash.add(std::as_bytes(std::span(sample.weights)));
  }
  return hash.hex().substr(0, 16);  // shown to people where it differs
}

// Every field of a spec but those of the section that says how to save.
struct Collect {
  Fingerprint& found;
  std::string prefix;
  static std::string text(const std::string& value) { return value; }
  static std::string text(bool value) { return value ? "true" : "false"; }
  static std::string text(int64_t value) { return fmt::format("{}", value); }
  static std::string text(double value) { return fmt::format("{}", value); }
  template <class Element> static std::string text(const std::vector<Element>& values) {
    std::string all;
    for (const auto& value : values) all += (all.empty() ? "" : ", ") + text(value);
    return all;
  }
  template <class Value> void operator()(const char* name, const Value& value, const Rule&, const char*) {
    found.emplace_back(prefix + name, text(value));
  }
  template <class Spec> void section(const char* name, Spec& spec, const char*) {
    if (std::string_view(name) == "checkpoint") return;
    Collect inner{found, prefix + name + "."};
    spec.fields(inner);
  }
};

}  // namespace

Fingerprint full_fingerprint(const TrainSpec& spec, const TrainJob& job, int64_t threads) {
  auto all = job.fingerprint;
  TrainSpec resolved = spec;
  resolved.threads = threads;
  Collect collect{all, "train."};
  resolved.fields(collect);
  // One of the two cuts the steps. On a device the threads are the CPU's beside it, whose part nobody has
  // shown to be free of them.
  const bool by_parts = spec.batch.parts > 0;
  std::erase_if(all, [&](const auto& pair) {
    return by_parts ? pair.first == "train.threads" && job.model.device().is_cpu()
                    : pair.first == "train.batch.parts";
  });
  all.emplace_back("compute", job.compute == at::kBFloat16 ? "bf16" : "f32");
  all.emplace_back("kernel", gemm_kernel(job.compute == at::kBFloat16 ? Operand::bf16 : Operand::f32)
                                 .name);  // chosen by a measurement
  if (const auto device = job.model.device(); !device.is_cpu()) all.emplace_back("device", describe(device));
  all.emplace_back("cpu", cpu_model());
  all.emplace_back("build", build_id());
  all.emplace_back("libtorch", TORCH_VERSION);
  all.emplace_back("samples", hash_of(job.samples));
  all.emplace_back("held_out samples", hash_of(job.held_out));
  return all;
}

Fingerprint without_machine(Fingerprint fingerprint) {
  std::erase_if(fingerprint, [](const auto& pair) {
    const auto& name = pair.first;
    return name == "train.threads" || name == "kernel" || name == "cpu" || name == "build" ||
           name == "libtorch" || name == "device";
  });
  return fingerprint;
}

namespace {

// Of two texts of lines (the sections of a recipe, the files of a teacher) those lines of `text` that `other`
// does not have, in one line.
std::string own_lines(const std::string& text, const std::string& other) {
  const auto lines_of = [](const std::string& all) {
    std::vector<std::string> lines;
    for (size_t at = 0; at < all.size();) {
      const auto end = std::min(all.find('\n', at), all.size());
      const auto begin = all.find_first_not_of(' ', at);
      if (begin < end) lines.push_back(all.substr(begin, end - begin));
      at = end + 1;
    }
    return lines;
  };
  const auto others = lines_of(other);
  std::string own;
  for (const auto& line : lines_of(text))
    if (std::find(others.begin(), others.end(), line) == others.end())
      own += (own.empty() ? "" : ", ") + line;
  return own.empty() ? "nothing else" : own;
}

}  // namespace

std::string differences(const Fingerprint& then, const Fingerprint& now, const std::string& of_then,
                        const std::string& of_now) {
  std::string text;
  const auto find = [](const Fingerprint& all, const std::string& name) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const auto& pair) { return pair.first == name; });
    return found == all.end() ? std::string("absent") : found->second;
  };
  const auto add = [&](const std::string& name, const std::string& was, const std::string& is) {
    if (was == is) return;
    const bool lines = was.find('\n') != std::string::npos || is.find('\n') != std::string::npos;
    text += fmt::format("{}{}: {} {}, {} {}", text.empty() ? "" : "; ", name,
                        lines ? own_lines(was, is) : was, of_then, lines ? own_lines(is, was) : is, of_now);
  };
  for (const auto& [name, value] : then) add(name, value, find(now, name));
  for (const auto& [name, value] : now)
    if (find(then, name) == "absent") add(name, "absent", value);
  return text;
}

}  // namespace retort
