#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "report/metrics.h"
#include "report/page.h"
#include "report/progress.h"
#include "sample_page.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() : path(fs::temp_directory_path() / fmt::format("retort_report_{}_{}", getpid(), counter++)) {
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name) << text;
  }
  fs::path path;

 private:
  static inline int counter = 0;
};

std::vector<std::string> named(const std::vector<Difference>& differences) {
  std::vector<std::string> names;
  for (const auto& difference : differences)
    names.push_back(difference.path + " " + difference.what.substr(0, difference.what.find(':')));
  return names;
}

}  // namespace

TEST(Metrics, AResumedRunDropsLaterAndTornRows) {
  Folder folder;
  {
    MetricsLog log(folder.path, 0);
    for (int64_t step = 1; step <= 5; ++step) log.add(step, {{"loss", 1.0 / static_cast<double>(step)}});
  }
  std::ofstream(folder.path / "metrics.jsonl", std::ios::app) << "{\"step\":6,\"lo";
  {
    MetricsLog log(folder.path, 3);
    log.add(4, {{"loss", NAN}});
  }
  EXPECT_EQ(read_text(folder.path / "metrics.jsonl"),
            "{\"step\":1,\"loss\":1.0}\n{\"step\":2,\"loss\":0.5}\n{\"step\":3,\"loss\":0.3333333333333333}"
            "\n{\"step\":4,\"loss\":null}\n");
  const auto rows = read_metrics(folder.path / "metrics.jsonl");
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1].step, 2);
  EXPECT_EQ(rows[1].scalars[0].second, 0.5);
  EXPECT_TRUE(std::isnan(rows[3].scalars[0].second));
}

TEST(Manifest, NamesModifiedMissingAndAddedFiles) {
  Folder run, inputs;
  run.write("a.txt", "one");
  run.write("deep/b.txt", "two");
  run.write("run.lock", "host 1");
  inputs.write("model.gguf", "weights");
  const auto manifest = write_manifest(run.path, {inputs.path / "model.gguf", run.path / "a.txt"}, "r");
  ASSERT_EQ(manifest.read.size(), 1u);
  ASSERT_EQ(manifest.written.size(), 2u);
  EXPECT_EQ(manifest.written[0].sha256,
            "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");  // sha256sum of "one"
  EXPECT_TRUE(verify_manifest(run.path).empty());

  run.write("a.txt", "onf");
  fs::remove(run.path / "deep/b.txt");
  run.write("c.txt", "new");
  inputs.write("model.gguf", "weights!");
  EXPECT_EQ(named(verify_manifest(run.path)),
            (std::vector<std::string>{(inputs.path / "model.gguf").string() + " modified", "a.txt modified",
                                      "deep/b.txt missing", "c.txt added"}));
}

TEST(Manifest, HashesTheManifestsOfCheckpointsToo) {
  Folder run;
  run.write("checkpoints/step-10/manifest.json", "{}");
  ASSERT_EQ(write_manifest(run.path, {}, "r").written.size(), 1u);
  run.write("checkpoints/step-10/manifest.json", "{ }");
  EXPECT_EQ(named(verify_manifest(run.path)),
            (std::vector<std::string>{"checkpoints/step-10/manifest.json modified"}));
}

// They are made when the run is finished. A file that only calls itself one is added like any other.
TEST(Manifest, LeavesOutSignaturesAndNamesThem) {
  Folder run;
  run.write("export/model.gguf", "weights");
  run.write("export/adapter/adapter_config.json", "{}");
  ASSERT_EQ(write_manifest(run.path, {}, "r").written.size(), 2u);
  EXPECT_TRUE(signatures_inside(run.path).empty());
  run.write("model.sig", "of the run");
  run.write("export/adapter/model.sig", "of a folder");
  run.write("export/model.gguf.sig", "of a file");
  run.write("export/other.gguf.sig", "of nothing");
  EXPECT_EQ(named(verify_manifest(run.path)), (std::vector<std::string>{"export/other.gguf.sig added"}));
  std::vector<std::string> signatures;
  for (const auto& file : signatures_inside(run.path)) signatures.push_back(file.string());
  EXPECT_EQ(signatures,
            (std::vector<std::string>{"export/adapter/model.sig", "export/model.gguf.sig", "model.sig"}));
}

TEST(Manifest, LeavesOutWhatComesAndGoes) {
  Folder run;
  run.write("train.part-0001.jsonl", "a user's");
  run.write("a.txt.part-12", "half");
  run.write("checkpoints/.saving-step-00000002/state.json", "{}");
  run.write("checkpoints/.removing-step-00000001/state.json", "{}");
  const auto manifest = write_manifest(run.path, {}, "r");
  ASSERT_EQ(manifest.written.size(), 1u);
  EXPECT_EQ(manifest.written[0].path, "train.part-0001.jsonl");
}

TEST(Manifest, NamesTheDeviceWhereThereIsOneToName) {
  Folder run;
  write_manifest(run.path, {}, "r", "cuda:1");
  EXPECT_EQ(read_manifest(run.path).device, "cuda:1");
  write_manifest(run.path, {}, "r");  // as before there was a choice
  EXPECT_EQ(read_manifest(run.path).device, "");
  EXPECT_EQ(read_text(run.path / "manifest.json").find("device"), std::string::npos);
}

TEST(Manifest, IsOfAnEarlierStateWhenTheLedgerWentOn) {
  Folder run;
  EXPECT_FALSE(is_of_this_state(run.path, "stages.json"));
  run.write("stages.json", "{}");
  write_manifest(run.path, {}, "r");
  EXPECT_TRUE(is_of_this_state(run.path, "stages.json"));
  run.write("stages.json", "{ }");
  EXPECT_FALSE(is_of_this_state(run.path, "stages.json"));
  write_manifest(run.path, {}, "r");
  run.write("manifest.json", "{\"version\": 1, \"read\": [1]}");
  EXPECT_FALSE(is_of_this_state(run.path, "stages.json"));
  run.write("stages.json", "{}");
  run.write("checkpoints/.saving-step-00000002/state.json", "{}");
  // A manifest of earlier versions recorded what comes and goes.
  run.write(
      "manifest.json",
      fmt::format("{{\"version\": 1, \"read\": [], \"written\": [{}, {}]}}",
                  R"({"path": "stages.json", "bytes": 2, "sha256": ")"
                  "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"}",
                  R"({"path": "checkpoints/.saving-step-00000002/state.json", "bytes": 2, "sha256": "44"})"));
  EXPECT_FALSE(is_of_this_state(run.path, "stages.json"));
}

TEST(Manifest, HostileManifestsAreRefused) {
  Folder run;
  EXPECT_THROW(verify_manifest(run.path), FormatError);
  for (const char* text :
       {"{", "[]", "{\"version\":2}", "{\"version\":1,\"read\":[],\"written\":[{\"path\":\"x\"}]}",
        "{\"version\":\"1\"}", "{\"version\":1,\"recipe_sha256\":\"\",\"read\":[1],\"written\":[]}",
        "{\"version\":1,\"recipe_sha256\":7,\"read\":[],\"written\":[]}",
        "{\"version\":1,\"recipe_sha256\":\"\",\"read\":[],\"written\":[{\"path\":\"../x\",\"bytes\":1,"
        "\"sha256\":\"\"}]}"}) {
    run.write("manifest.json", text);
    EXPECT_THROW(verify_manifest(run.path), FormatError) << text;
  }
}

// Rows of other programs, or of a hand: whatever their types are, they end no run.
TEST(Metrics, RowsOfAnotherKindAreLeftOutOrHaveNoStep) {
  Folder folder;
  folder.write("metrics.jsonl", "[1]\n{\"step\":\"x\",\"loss\":1}\n{\"step\":2,\"loss\":\"y\"}\n7\n");
  const auto rows = read_metrics(folder.path / "metrics.jsonl");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].step, 0);
  EXPECT_EQ(rows[1].step, 2);
  EXPECT_TRUE(std::isnan(rows[1].scalars[0].second));
  MetricsLog log(folder.path, 1);
  EXPECT_EQ(read_text(folder.path / "metrics.jsonl"), "{\"step\":\"x\",\"loss\":1}\n");
}

TEST(Chart, TicksAreRoundAndInside) {
  EXPECT_EQ(ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(ticks(0.3, 1.1, 4), (std::vector<double>{0.4, 0.6000000000000001, 0.8, 1.0}));
  EXPECT_TRUE(ticks(1, 1, 5).empty());
}

TEST(Chart, DrawsGapsForNumbersThatAreNotFinite) {
  const auto svg = chart_svg({"t", "", {{"a", {{0, 1}, {1, 2}, {2, NAN}, {3, 1}, {4, 2}}}}});
  EXPECT_EQ(std::count(svg.begin(), svg.end(), 'M'), 2);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_NE(chart_svg({"t", "", {{"a", {}}}}).find("no values"), std::string::npos);
}

TEST(Chart, AveragesLongRuns) {
  Series series{"a", {}};
  for (int i = 0; i < 100000; ++i) series.points.emplace_back(i, i % 2);
  EXPECT_LT(chart_svg({"t", "", {series}}).size(), 20000u);
  EXPECT_NEAR(smoothed(series, 9).points.back().second, 0.5, 0.1);
}

// weight 2 / (3 + 1) = 1/2: 0, 2 -> 1, 4 -> 2.5
TEST(Chart, SmoothsByHand) {
  const auto smooth = smoothed({"a", {{0, 0}, {1, 2}, {2, 4}}}, 3);
  EXPECT_EQ(smooth.points[1].second, 1);
  EXPECT_EQ(smooth.points[2].second, 2.5);
}

TEST(Page, EscapesWhatModelsSay) {
  Page page;
  page.samples = {{"<script>alert(1)</script>", "a & b", "\"x\"", "'y'\x01", false, true}};
  const auto html = page_html(page);
  EXPECT_EQ(html.find("<script"), std::string::npos);
  EXPECT_NE(html.find("&lt;script&gt;alert(1)&lt;/script&gt;"), std::string::npos);
  EXPECT_NE(html.find("a &amp; b"), std::string::npos);
}

TEST(Page, NeedsNothingElse) {
  const auto html = page_html(sample_page());
  for (const char* outside : {"http://", "https://", "src=", "@import", "url("})
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  EXPECT_LT(html.size(), 200000u);
}

TEST(Progress, TellsRateOfThisRunAndWhatIsLeft) {
  Progress progress("train", 400, "steps", 100, stderr);
  EXPECT_EQ(progress.line(200, 50, "loss 1.25"),
            "train  200/400 steps  loss 1.25  1 min 40 s left");  // 100 steps in 50 s, 200 to go
  EXPECT_EQ(progress.line(400, 150, ""), "train  400/400 steps  2 min 30 s");
  EXPECT_EQ(duration(7620), "2 h 07 min");
  EXPECT_EQ(duration(3.21), "3.2 s");
}

}  // namespace retort
