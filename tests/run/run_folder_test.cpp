// Whose the files in a run's folder are.
#include "run/run_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/unfinished_file.h"

namespace retort {

namespace fs = std::filesystem;

class RunFolder : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder); }
  void TearDown() override { fs::remove_all(folder); }
  void write(const std::string& name) const { write_text(folder / name, name); }
  std::set<std::string> files() const {
    std::set<std::string> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      if (entry.is_regular_file()) found.insert(entry.path().lexically_relative(folder).string());
    return found;
  }
  fs::path folder = fs::temp_directory_path() / fmt::format("retort_run_folder_{}", getpid());
};

TEST(IsUnfinished, OnlyNamesThatEndWithTheMarkAndANumber) {
  for (const auto* ours : {"report.html.part-1", "model.old.part-4711", "a.part-x.part-12"})
    EXPECT_TRUE(is_unfinished(ours)) << ours;
  for (const auto* users :
       {"train.part-0001.jsonl", "archive.part-", "archive.part-2024b", ".part-12", "part-12"})
    EXPECT_FALSE(is_unfinished(users)) << users;
}

TEST_F(RunFolder, FilesOfTheUsersAreRefusedBeforeAnythingIsTouched) {
  require_run_or_empty(folder / "absent");
  require_run_or_empty(folder);
  fs::create_directories(folder / "teacher");  // `retort teach` was here
  require_run_or_empty(folder);
  write(".rehearsal-aB3xYz/merged/config.json");  // a start was killed
  require_run_or_empty(folder);
  write("recipe.yaml");
  try {
    require_run_or_empty(folder);
    FAIL() << "a folder of the user's was taken for a run";
  } catch (const RecipeError& error) {
    EXPECT_EQ(std::string(error.what()),
              "run.folder: " + folder.string() +
                  ": is neither empty nor the folder of a run (it holds recipe.yaml); name a new folder");
  }
  EXPECT_THROW(require_run_or_empty(folder / "recipe.yaml"), RecipeError);
  write("run.lock");
  require_run_or_empty(folder);
}

// /proc takes no folder from anybody, and a file holds none.
TEST_F(RunFolder, APlaceWhereNoFolderCanBeMadeIsRefused) {
  write("file");
  const auto before = files();
  for (const auto& [place, words] : {std::pair<fs::path, std::string>("/proc/x", "No such file or directory"),
                                     {folder / "file/x/y", "Not a directory"},
                                     {folder / std::string(300, 'x'), "File name too long"}}) {
    try {
      require_run_or_empty(place);
      FAIL() << place << " was taken";
    } catch (const RecipeError& error) {
      const std::string line = error.what();
      EXPECT_TRUE(line.starts_with("run.folder: ")) << line;
      EXPECT_TRUE(line.ends_with(": " + words + "; name a folder in a place where you may write")) << line;
    }
  }
  require_run_or_empty(folder / "new/below");
  EXPECT_EQ(files(), before);
  EXPECT_FALSE(fs::exists(folder / "new"));
}

TEST_F(RunFolder, OnlyLeftoversInTheRunsOwnPlacesAreRemoved) {
  const std::set<std::string> users = {"train.part-0001.jsonl",         "notes.part-7",
                                       "archive.part-2024/thesis.txt",  "mine/model.gguf.part-12",
                                       "export/shards.part-1.txt",      "export/x.part-2024",
                                       "export/model-mine.gguf.part-7", "export/thesis.part-3/chapter.txt",
                                       "checkpoints/.saving-mine/a",    ".rehearsal-notes/a"};
  const std::set<std::string> runs = {"run.lock", "stages.json", "export/model.gguf",
                                      "checkpoints/step-00000002/state.json"};
  for (const auto& name : users) write(name);
  for (const auto& name : runs) write(name);
  for (const auto* leftover :
       {"report.html.part-12", "export/merged.part-12/config.json", "export/model-Q8_0.gguf.part-12",
        "export/model-Q8_0.Modelfile.part-12", "export/adapter.old.part-12/a",
        "export/merged/model.safetensors.part-12", "export/adapter.gguf.part-12",
        "checkpoints/.saving-step-00000004/state.json", "checkpoints/.removing-step-00000001.3/state.json",
        "ce-only/checkpoints/.saving-step-00000004/state.json", "round-01/trained.safetensors.part-3",
        "eval/base.json.part-12", ".rehearsal-aB3xYz/merged/config.json"})
    write(leftover);
  remove_leftovers_of_run(folder);
  auto expected = users;
  expected.insert(runs.begin(), runs.end());
  EXPECT_EQ(files(), expected);
}

}  // namespace retort
