// A disk that takes no more in the middle of an export: one error, nothing half-written, and what stood there
// stays.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "adapters/attach.h"
#include "base/error.h"
#include "base/files.h"
#include "export/artefacts.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

const fs::path kCheckpoint = fs::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";

// Files of this process may not grow beyond `bytes` while this lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(FullDisk, LeavesNothingHalfWritten) {
  if (!fs::exists(kCheckpoint)) GTEST_SKIP() << kCheckpoint << " is absent: run tools/setup";
  const auto folder = fs::temp_directory_path() / fmt::format("retort_full_disk_{}", getpid());
  fs::create_directories(folder / "merged");
  write_text(folder / "merged/config.json", "an earlier export");
  auto loaded = load_model({.path = kCheckpoint.string(), .compute = "f32"});
  const AdapterSpec spec{.kind = "lora", .rank = 16, .targets = {"all"}, .modules_to_save = {}};
  attach(*loaded.model, spec, 7);
  const auto names = [&] {
    std::vector<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      found.push_back(entry.path().lexically_relative(folder).string());
    std::sort(found.begin(), found.end());
    return found;
  };
  {
    const FileSizeLimit limit(3 << 20);
    EXPECT_THROW(write_gguf_model(folder / "model.gguf", loaded, *mixture_from_name("Q4_0"), true, 2),
                 Failure);
    EXPECT_THROW(write_hf_folder(folder / "merged", loaded, WeightType::bf16, uint64_t{1} << 32, 2), Failure);
    EXPECT_THROW(write_peft_adapter(folder / "adapter", loaded, spec), Failure);
    EXPECT_THROW(write_gguf_adapter(folder / "adapter.gguf", loaded, spec), Failure);
  }
  EXPECT_EQ(names(), (std::vector<std::string>{"merged", "merged/config.json"}));
  EXPECT_EQ(read_text(folder / "merged/config.json"), "an earlier export");
  write_peft_adapter(folder / "adapter", loaded, spec);
  EXPECT_EQ(names(),
            (std::vector<std::string>{"adapter", "adapter/adapter_config.json",
                                      "adapter/adapter_model.safetensors", "merged", "merged/config.json"}));
  fs::remove_all(folder);
}

}  // namespace
}  // namespace retort
