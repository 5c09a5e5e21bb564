// Keys on the curves P-256, P-384 and P-521: files in PEM, those of certificates, those in a token.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace retort {

class EcKey {
 public:
  // FormatError for a file that holds no such key, or an encrypted one.
  static EcKey private_key(const std::filesystem::path& file);
  static EcKey public_key(const std::filesystem::path& file);
  // Takes an EVP_PKEY over, which was found in `place`; FormatError where it is of another kind.
  static EcKey of_openssl(void* evp_pkey, const std::string& place);

  // ECDSA over the SHA-2 that is as wide as the curve (P-521: SHA-512); a signature is DER.
  std::string sign(std::string_view text) const;
  bool verifies(std::string_view text, std::string_view signature) const;
  // The public half in PEM, and the hash by which a signature names it.
  std::string public_pem() const;
  std::string hint() const;
  bool same_public_half(const EcKey& other) const;

 private:
  struct Free {
    void operator()(void* key) const;
  };
  EcKey(void* key, int bits) : key_(key), bits_(bits) {}
  std::unique_ptr<void, Free> key_;
  int bits_ = 0;
};

}  // namespace retort
