"""What the application's /login gives a user: a token.  login.py USER [SECONDS]"""

import os
import sys
import time

import jwt

user, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3600
claims = {"sub": user, "name": user.title(), "exp": int(time.time()) + seconds}
# Changed: this line is new, for users who may not have every region.
if regions := os.environ.get("REGIONS"):
    claims["regions"] = regions.split(",")
print(jwt.encode(claims, os.environ["JWT_SECRET"], algorithm="HS256"))
