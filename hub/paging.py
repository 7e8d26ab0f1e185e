"""Lists a page at a time: `limit` + `offset`, or `page` + `page_size`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 100
_ROW_MAX = 1 << 31


class Paging:
    """Which part of a list; a dependency. A page size above `PAGE_SIZE_MAX` is clamped."""

    def __init__(
        self,
        limit: Annotated[int | None, Query(ge=1, le=_ROW_MAX, description="At most so many; 100 at most.")] = None,
        offset: Annotated[int | None, Query(ge=0, le=_ROW_MAX, description="Leave out so many.")] = None,
        page: Annotated[int | None, Query(ge=1, le=_ROW_MAX, description="Counted from 1.")] = None,
        page_size: Annotated[int | None, Query(ge=1, le=_ROW_MAX, description="100 at most.")] = None,
    ) -> None:
        self.page_size = min(page_size or limit or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        if page is not None or offset is None:
            self.page = page or 1
            self.offset = (self.page - 1) * self.page_size
        else:
            self.offset = offset
            self.page = offset // self.page_size + 1
