#include "run/run_result.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace retort {
namespace {

ModelResult exported(const std::string& name, std::optional<double> exact_within, double kl) {
  ModelResult model;
  model.name = name;
  model.artefact = Artefact{"gguf", "F32", name, 1, {}, 0};
  model.artefact->exact_within = exact_within;
  model.agreement = Agreement{.rows = 10, .kl_nats = kl, .top1 = 1};
  return model;
}

TEST(OwnMistakes, AreFilesOfFp32ThatReadBackAsAnotherModel) {
  RunResult result;
  result.exports = {exported("export/model-Q4_K_M.gguf", {}, 0.5),
                    exported("export/model-F32.gguf", 1e-5, 9e-6)};
  EXPECT_TRUE(own_mistakes(result).empty());
  EXPECT_NO_THROW(throw_own_mistakes(result));
  result.exports[1].agreement->kl_nats = 2e-5;
  result.exports.push_back(exported("export/merged", 1e-5, std::nan("")));  // is near nothing
  const auto lines = own_mistakes(result);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_NE(lines[0].find("export/model-F32.gguf: it holds fp32 and yet reads back 2.00e-05 nats"),
            std::string::npos)
      << lines[0];
  EXPECT_NE(lines[1].find("export/merged: "), std::string::npos) << lines[1];
  try {
    throw_own_mistakes(result);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code, Exit::machine_failed);
    EXPECT_NE(std::string(failure.what()).find("a mistake of retort's"), std::string::npos);
  }
}

}  // namespace
}  // namespace retort
